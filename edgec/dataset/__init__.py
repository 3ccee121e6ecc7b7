"""The user's samples: readers (npz, npy, image folder, Python entry), preprocessing, balancing, leak check, spools."""
