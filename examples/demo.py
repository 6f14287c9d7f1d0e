"""The demonstration: a small transformer learns the licence texts of this machine, submitted through the Azure ML SDK's own API."""
import os
import subprocess
import sys
import tempfile

from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.train.dnn import PyTorch

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = "/usr/share/common-licenses"
FALL = 0.7  # the last loss must be below so much of the first


def say(text):
    print("\n== " + text, flush=True)


def command(*args):
    """Show and run a `trainyard` command."""
    print("$ trainyard " + " ".join(args), flush=True)
    subprocess.run(["trainyard", *args], check=True)


def target_of(ws):
    """The compute target 'box', made at the first time, as scripts of the SDK do it."""
    try:
        return ComputeTarget(workspace=ws, name="box")
    except ComputeTargetException:
        config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2)
        target = ComputeTarget.create(ws, "box", config)
        target.wait_for_completion(show_output=True)
        return target


def main():
    say("Text for the model: %s goes to the default datastore" % TEXTS)
    ws = Workspace.from_config()
    ds = ws.get_default_datastore()
    ds.upload(TEXTS, target_path="licences", overwrite=True, show_progress=False)

    say("A job: examples/charlm/train.py with --data_dir <datastore>/licences")
    estimator = PyTorch(source_directory=os.path.join(HERE, "charlm"), script_params={"--data_dir": ds.path("licences")},
                        compute_target=target_of(ws), entry_script="train.py", use_gpu=False)
    run = Experiment(ws, "charlm-demo").submit(estimator)

    say("The queue")
    command("ps")

    say("The live log")
    run.wait_for_completion(show_output=True)

    metrics = run.get_metrics()
    losses = metrics["loss"]
    say("The loss, by 20 steps")
    for i, loss in enumerate(losses):
        print("%4d  %.3f  %s" % (i * 20 or 1, loss, "#" * int(loss * 12)))
    say("Files that the run keeps")
    for name in run.get_file_names():
        print(name)
    say("outputs/sample.txt, written by the model")
    with tempfile.TemporaryDirectory() as folder:
        run.download_file("outputs/sample.txt", output_file_path=folder)
        with open(os.path.join(folder, "sample.txt")) as f:
            print(f.read())

    say("Look further")
    for line in ("trainyard ps -a", "trainyard show " + run.id, "trainyard logs " + run.id, "trainyard metrics " + run.id,
                 "trainyard artifacts get %s outputs/model.pt" % run.id, "trainyard down      (stop the daemon)"):
        print("  " + line)
    print("  with PATH=%s:$PATH" % os.environ["PATH"].split(":")[0])

    if not losses[-1] < FALL * losses[0]:
        print("\nThe loss went from %.3f to %.3f, which is not below %.1f of the first." % (losses[0], losses[-1], FALL), file=sys.stderr)
        return 1
    print("\nThe loss fell from %.3f to %.3f." % (losses[0], losses[-1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
