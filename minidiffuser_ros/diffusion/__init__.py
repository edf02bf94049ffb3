"""Noise schedules and samplers for any denoiser callable; names follow `diffusers`."""
