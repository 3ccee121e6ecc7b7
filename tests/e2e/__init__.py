"""The real command on real projects."""
