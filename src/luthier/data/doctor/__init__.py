"""The doctor: what a sound file would teach, examined as a whole before a job reads it."""
