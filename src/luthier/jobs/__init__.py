"""The queue of fine-tuning jobs: which status may follow which, who runs what, and what a caller may do to a job."""
