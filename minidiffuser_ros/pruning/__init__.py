"""Sparse ActionGen: which parts of a denoiser to compute for an observation, and which to reuse."""
