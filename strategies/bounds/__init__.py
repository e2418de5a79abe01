"""What every method is held against: finetune, joint, a network for each task."""
