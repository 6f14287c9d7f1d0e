"""What `make demo` shows: data is uploaded, a script is submitted, watched, and gives its files back; and another one on two nodes."""
import os
import subprocess
import sys

from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.exceptions import AzureMLException, ComputeTargetException
from azureml.train.dnn import PyTorch

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = "/usr/share/common-licenses"
CLUSTER = "demo-cluster"  # two logical nodes of this box
FALL = 0.7  # the last loss has to be below this part of the first
BARS = "▁▂▃▄▅▆▇█"


def title(text):
    print("\n== %s" % text, flush=True)


def trainyard(*words):
    print("$ trainyard %s" % " ".join(words), flush=True)
    subprocess.run(["trainyard", *words], check=False)


def curve(values):
    """The values as a line of bars, at most 60."""
    step = max(1, -(-len(values) // 60))
    values, low, high = values[::step], min(values), max(values)
    return "".join(BARS[int((v - low) / ((high - low) or 1) * (len(BARS) - 1))] for v in values)


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def main():
    title("The texts of %s go to the default datastore" % TEXTS)
    ws = Workspace.from_config()
    ds = ws.get_default_datastore()
    ds.upload(TEXTS, target_path="licences", overwrite=True)
    texts = ds.path("licences", data_reference_name="licences")

    title("A small character-level transformer that learns them is submitted")
    estimator = PyTorch(source_directory=os.path.join(HERE, "charlm"), entry_script="train.py", compute_target="local",
                        script_params={"--data_dir": texts.as_mount(), **extra()})
    run = Experiment(ws, "charlm").submit(estimator)
    trainyard("ps")

    title("Its log, live (Ctrl-C detaches: the run goes on)")
    run.wait_for_completion(show_output=True)

    title("The loss")
    losses = as_list(run.get_metrics("loss").get("loss"))
    if len(losses) < 2:
        sys.exit("the demo failed: the run logged %d losses" % len(losses))
    print("%s\n%.3f at first, %.3f at last: %.2fx" % (curve(losses), losses[0], losses[-1], losses[-1] / losses[0]))

    title("What the model writes (outputs/sample.txt)")
    run.download_file("outputs/sample.txt", os.path.join(results(run), "sample.txt"))
    with open(os.path.join(results(run), "sample.txt"), encoding="utf-8") as file:
        print(file.read())

    title("The run's files")
    print("\n".join(run.get_file_names()))
    if losses[-1] >= FALL * losses[0]:
        sys.exit("the demo failed: the loss did not fall below %.1fx its first value" % FALL)

    other = distributed(ws, texts)

    title("To look further")
    print("export PATH=%s:$PATH" % os.environ.get("BUILD", "build"))
    for words in ("show", "link", "logs", "metrics", "artifacts ls", "artifacts get"):
        print("trainyard %s %s" % (words, run.id))
    print("trainyard logs --rank 1 %s" % other.id)
    print("trainyard ps; trainyard status; trainyard down     # runs go on without the daemon")


def distributed(ws, texts):
    """The same model on two nodes, by MPI and Horovod."""
    title("The same model, learned by two nodes of a cluster together (Horovod; nothing to install)")
    try:
        cluster = ComputeTarget(workspace=ws, name=CLUSTER)
    except ComputeTargetException:
        cluster = ComputeTarget.create(ws, CLUSTER, AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2))
    estimator = PyTorch(source_directory=os.path.join(HERE, "charlm"), entry_script="distributed.py", compute_target=cluster,
                        script_params={"--data_dir": texts.as_mount(), **extra()}, node_count=2, process_count_per_node=1,
                        distributed_backend="mpi")
    run = Experiment(ws, "charlm").submit(estimator)
    run.wait_for_completion(show_output=True)
    losses = as_list(run.get_metrics("loss").get("loss"))
    if len(losses) < 2 or losses[-1] >= FALL * losses[0]:
        sys.exit("the demo failed: on two nodes the loss did not fall below %.1fx its first value: %s" % (FALL, losses))
    print("%s\n%.3f at first, %.3f at last, on %d nodes" % (curve(losses), losses[0], losses[-1],
                                                          run.get_details()["runDefinition"]["nodeCount"]))
    print("\n".join(run.get_file_names()))
    return run


def extra():
    """Arguments of the demonstration itself are passed on to the script, in pairs."""
    words = sys.argv[1:]
    return dict(zip(words[::2], words[1::2]))


def results(run):
    """A folder for what is fetched of a run."""
    folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "trainyard", "demo", run.id)
    os.makedirs(folder, exist_ok=True)
    return folder


if __name__ == "__main__":
    try:
        main()
    except AzureMLException as error:
        sys.exit("the demo failed: %s" % error)
    except KeyboardInterrupt:
        sys.exit(130)
