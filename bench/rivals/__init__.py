"""Times Topkast beside other ways to train on a CPU; see README.md one folder up."""
