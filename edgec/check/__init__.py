"""What is wrong with a project, found before any work: `edgec check`, and the first seconds of each build.

Every kind of question has a module of its own and is asked whatever the others find: a model that cannot be loaded
hides nothing of the data, and a key that is misspelt hides nothing of the model. What is found is a list of records
(`edgec.check.records`); nothing in here is printed, and nothing is lowered, quantized or written beside the project.
"""
