"""The training loop and the stages: pretrain, finetune, evaluate, predict."""
