"""Names of the files that a stage writes into its run folder."""

MODEL = "model.safetensors"  # the trained weights
EARLIER_MODEL = "model-{}.safetensors"  # the weights some steps before the end: 1 is the latest
CHECKPOINT = "checkpoint.safetensors"  # everything that training resumes from
METRICS = "metrics.jsonl"  # one line for each logged step
TENSORBOARD = "tensorboard"  # a folder

NO_WEIGHTS = (
    "has a record and no weights here; add them with `run.py unbundle`, or run its experiment in "
    "another results folder"
)  # said of a run
