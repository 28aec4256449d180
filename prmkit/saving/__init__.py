"""Fitted models as folders: config.json and safetensors, checked by digest, read without running code."""
