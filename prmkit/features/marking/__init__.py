"""Solutions as marked tokens: what is written around steps, how it is tokenised, where a step's score is read."""
