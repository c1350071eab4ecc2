"""The programs: each reads its flags and config.txt and calls the rooms.

There is one module for each. Those of the three scripts have the scripts' names; see
``installation.SCRIPTS``.
"""

# All of them, with what each does.
COMMANDS = {
    "init": "writes config.txt and recipes, or a configuration for your images",
    "preprocess": "keeps the buffer of ready batches filled",
    "train": "trains on the batches of preprocess",
    "stats": "computes the channels' mean and standard deviation",
    "evaluate": "measures top-1 and top-5 accuracy of a run's checkpoints",
    "predict": "names the five most probable classes of any images",
    "plot": "plots learning curves of one or more runs, or what one run confuses",
    "compare": "shows where settings and results of runs differ",
    "log": "copies settings and tables of runs into MLflow",
    "status": "shows speed, buffer, time left and disk use of running programs",
    "preview": "shows what the network sees: a batch, or one image in many epochs",
    "doctor": "checks the machine, the settings and the images before a training",
    "weights": "exports and imports weights in torchvision's and timm's layout",
    "export": "writes a SavedModel or ONNX file that takes decoded images",
    "demo": "runs the whole pipeline on generated images, in minutes on a CPU",
    "completion": "prints a script with which bash or zsh completes commands and flags",
}
