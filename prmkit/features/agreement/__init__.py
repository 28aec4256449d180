"""Where the sampled solutions of a problem agree: in their answers, and in the numbers of their steps."""
