#!/bin/bash
# Two runs side by side: what differs in parameters, code and metrics.
. "$(dirname "$0")/lib.sh"
cat > train.py <<'X'
import sys
from azureml.core.run import Run
run = Run.get_context()
for i in range(3):
    run.log("loss", float(sys.argv[2]) / (i + 1))
run.log("epochs", 3)
X
echo old > notes.txt
submit() { trainyard submit -q --env PYTHONPATH="$PYTHONPATH" "$@"; }
snapshot_of() { trainyard show "$1" --json | field snapshot | cut -c1-8; }
one=$(submit --tag set=a -- $PY train.py --lr 0.3)
sed -i 's/"epochs", 3/"epochs", 5/' train.py
rm notes.txt
mkdir sub && echo new > "sub/with blank.txt"
two=$(submit --tag set=a -- $PY train.py --lr 0.6)
same=$(submit --tag set=b -- $PY train.py --lr 0.6)
check "the runs end" trainyard wait "$one" "$two" "$same"

shown=$(trainyard diff --plain "$one" "$two")
has "a flag of the command" "$shown" "^parameter	--lr	0.3	0.6	changed$"
has "a file that is gone" "$shown" "^file	notes.txt	4 B	-	removed$"
has "a file that is new" "$shown" "^file	sub/with blank.txt	-	4 B	added$"
has "a file that changed" "$shown" "^file	train.py	.*	changed$"
has "the difference of a metric" "$shown" "^metric	epochs	3	5	\+2$"
equal "nothing else but the loss" 6 "$(printf '%s\n' "$shown" | wc -l)"
has "the lines that differ" "$(trainyard diff --code "$one" "$two")" '^\+run.log\("epochs", 5\)$'
has "also in JSON" "$(trainyard diff --json --code "$one" "$two" | field diff)" '^-run.log\("epochs", 3\)$'
equal "runs that differ in a tag alone" "parameter	tag.set	a	b	changed" "$(trainyard diff --plain "$two" "$same")"
exits "a run and itself" 0 trainyard diff "$two" "$two"
equal "are called the same" "no difference in parameters, code and metrics" "$out"
exits "a run that is none" 3 trainyard diff "$one" nobody

table=$(trainyard compare --plain --best min "$one" "$two" "$same" | cut -f2,4-)
equal "a table of what differs and of metrics" "Completed	0.3	a	$(snapshot_of "$one")	0.1	0.1	3	3" "$(printf '%s\n' "$table" | sed -n 1p)"
equal "the best first" "$one" "$(trainyard compare -q --tag set --sort loss --best min | head -1)"
equal "the worst last" "$one" "$(trainyard compare -q -n 3 --sort loss --best max | tail -1)"
equal "a tag chooses" "$same" "$(trainyard compare -q --tag set=b)"
