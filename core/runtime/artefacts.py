"""Names of the files that a stage leaves in its folder."""

MODEL = "model.safetensors"  # the trained weights
CHECKPOINT = "checkpoint.safetensors"  # everything that training resumes from
METRICS = "metrics.jsonl"  # one line a logged step
TENSORBOARD = "tensorboard"
