"""From settings to a trained model: pretraining and fine-tuning."""
