"""``edgec.lock``: what the targets of a project were last built from, and which recipe each artifact got."""
