#!/bin/bash
# azblob.sh - Azure Blob against Azurite: up and down, resumed, refused, throttled, broken off
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/objects.lib.sh"
MOVER=$BUILD/bench/data/mover
SERVER="Azure Blob on Azurite"
ended() { code=$?; front_stop; azurite_stop; (exit $code); at_end; }
trap ended EXIT

if ! azurite_start "$T/azurite"; then
    skip "$SERVER" "$objects_why"
    exit 0
fi
export TRAINYARD_TEST_RETRY_MS=20

# access FILE CONTAINER JSON...: members of "config" besides account and container
access() {
    local file=$1 container=$2
    shift 2
    printf '{"name":"d","kind":"azureblob","config":{"account_name":"%s","container_name":"%s"%s}}' "$AZ_ACCOUNT" "$container" "$(printf ',%s' "$@")" >"$T/$file"
}
KEYED="\"account_key\":\"$AZ_KEY\""
at() { printf '"endpoint":"%s"' "$1"; }
access key box-1 "$(at "$AZ_ENDPOINT")" "$KEYED"
move() { timeout 600 "$MOVER" "$T/$1" "${@:2}" 2>&1; }
# The value of a key of the line of JSON that ends what `mover` says.
told() { printf '%s\n' "$out" | grep '^{' | tail -1 | field "$1"; }
fails() { what=$1 pattern=$2; shift 2; out=$(move "$@") && not_ok "$what" "it succeeded:" "$out" && return; has "$what" "$out" "$pattern"; }
works() { what=$1; shift; if out=$(move "$@"); then ok "$what"; else not_ok "$what" "$out"; fi; }

# ---- the container ----
fails "a container that is not there is named" "no such container: check container_name, or .*create_if_not_exists.*\(-19\)" key validate
works "it is made" key make
works "that it is there already is no error" key make
works "it can be looked into" key validate

# ---- up and down ----
mkdir -p src/many "src/with blank/ü+%&" && cd src || exit 1
head -c 41000000 /dev/urandom >big
head -c $((8 << 20)) /dev/urandom >one-part
: >empty
echo "a & b" >"with blank/ü+%&/x?=#.txt"
$PY -c '
for i in range(5200):
    with open("many/%04d" % i, "w") as f:
        f.write("%d\n" % i)'
cd ..
works "a folder goes up" key up src d --quiet
equal "all files of it" 5204 "$(told moved)"
works "the second time nothing is moved" key up src d --quiet
equal "as all is there" "5204 0" "$(told there) $(told bytes)"
works "it comes down, more than one page of a list" key down dst d --quiet
equal "all files of it" 5204 "$(told moved)"
check "and is the same" diff -r src dst
works "the second time nothing is moved" key down dst d --quiet
equal "as all is here" "5204 0" "$(told there) $(told bytes)"
azure GET /box-1/d/big | cmp - src/big && ok "another client reads the blob that was sent in blocks" || not_ok "another client reads the blob that was sent in blocks"
has "it has the MD5 of its whole content" "$(azure HEAD /box-1/d/big)" "content-md5: $(openssl md5 -binary src/big | base64 | sed 's/+/[+]/g')"
rm -rf dst
head -c 20000000 /dev/urandom | azure PUT /box-1/other/blob "" "x-ms-blob-type: BlockBlob" "x-ms-blob-content-type: text/x-test" >/dev/null
works "what another client has put comes down" key down dst other
azure GET /box-1/other/blob | cmp - dst/blob && ok "and is the same" || not_ok "and is the same"
# The sum of the parts' sums: what is noted with this content counts, what was noted with another does not.
SUM=$($PY -c '
import base64, hashlib
bytes = open("src/big", "rb").read()
print(base64.b64encode(hashlib.md5(b"".join(hashlib.md5(bytes[i:i + (8 << 20)]).digest() for i in range(0, len(bytes), 8 << 20))).digest()).decode())')
has "a blob in blocks says the sum of its blocks' sums" "$(azure HEAD /box-1/d/big)" "trainyard_parts: 8388608 ${SUM//+/[+]} $(openssl md5 -binary src/big | base64 | sed 's/+/[+]/g')"
noted() { azure PUT /box-1/other/blob comp=metadata "x-ms-meta-trainyard_parts: 8388608 $SUM $1" </dev/null >/dev/null; }
noted "$(openssl md5 -binary dst/blob | base64)"
fails "a download is held to it" "its MD5 is another one, twice \(-74\)" key down dst-noted other
noted "$(openssl md5 -binary src/big | base64)"
works "what was noted with another content does not count" key down dst-noted other
check "and the blob is the same" cmp dst-noted/blob dst/blob
azure PUT /box-1/marked/f "" "x-ms-blob-type: BlockBlob" "x-ms-meta-hdi_isfolder: true" </dev/null >/dev/null
echo x | azure PUT /box-1/marked/f/x "" "x-ms-blob-type: BlockBlob" >/dev/null
works "blobs that stand for folders are no files" key down dst marked
equal "only what is in them is" x "$(cat dst/f/x)"
access prefixed box-1 "$(at "$AZ_URL")" "$KEYED" '"prefix":"/d/with blank/"'
works "a prefix is the root of what is seen, at the address as a URL" prefixed ls
has "with paths below it" "$out" "^6 [0-9a-f]{32} ü[+]%&/x[?]=#.txt$"
works "a blob is removed" key rm d/one-part
works "that it is gone is no error" key rm d/one-part
fails "what is not there cannot be fetched" "no such blob \(-2\)" key down1 "$PWD/x" d/one-part
check "and leaves nothing here" test ! -e x

# ---- what is in the way ----
echo other >other
fails "another content is not overwritten" "'d/big'.*overwrite is not set|overwrite is not set.*\(-17\)" key up1 other d/big
works "but when it is wanted" key up1 other d/big --overwrite
works "one of the same size, too" key up1 src/many/0001 d/many/0002 --overwrite
equal "the blob has it" 1 "$(azure GET /box-1/d/many/0002)"
works "a large one over a small one" key up1 src/big d/big --overwrite
printf x | azure PUT /box-1/half/big "comp=block&blockid=QUFB" >/dev/null
fails "an unfinished upload of another tool is named" "another tool has begun an upload|\(-16\)" key up1 src/big half/big

# ---- broken off and taken up again ----
front_start "$T" "$AZ_ENDPOINT" "PUT,comp=block&,hold,3,1000"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
"$MOVER" "$T/fronted" up1 src/big broken/big --parallel 1 >/dev/null 2>&1 &
mover=$!
held() { grep -q hold "$T/front"; }
until_true 20 held || not_ok "the upload gets as far as its fourth block"
kill -9 $mover
wait $mover 2>/dev/null
fails "what is not sent whole is not there" "no such blob" key down1 "$PWD/x" broken/big
works "an upload that was killed is taken up" key up1 src/big broken/big
equal "without what the store has" 15834176 "$(told bytes)"
azure GET /box-1/broken/big | cmp - src/big && ok "and is the same" || not_ok "and is the same"
front_start "$T" "$AZ_ENDPOINT" "PUT,comp=block&,hold,3,1000"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
"$MOVER" "$T/fronted" up1 src/big shorter --parallel 1 >/dev/null 2>&1 &
mover=$!
until_true 20 held || not_ok "the upload gets as far as its fourth block"
kill -9 $mover
wait $mover 2>/dev/null
head -c 20000000 src/big >short
works "a file that has become shorter since goes up" key up1 short shorter
equal "without the parts that are the same" 3222784 "$(told bytes)"
azure GET /box-1/shorter | cmp - short && ok "and is the same" || not_ok "and is the same"
front_start "$T" "$AZ_ENDPOINT" "GET,broken/big,hold,3,1000"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
"$MOVER" "$T/fronted" down1 "$PWD/got" broken/big --parallel 1 >/dev/null 2>&1 &
mover=$!
until_true 20 held || not_ok "the download gets as far as its fourth part"
kill -9 $mover
wait $mover 2>/dev/null
check "what has not come whole is not there" test ! -e got
works "a download that was killed is taken up" key down1 "$PWD/got" broken/big
equal "without what is here" 15834176 "$(told bytes)"
check "and is the same" cmp got src/big
equal "and nothing else is left" got "$(ls -A | grep got)"

# ---- a service that is busy, answers that are lost ----
front_start "$T" "$AZ_ENDPOINT" "PUT,busy/big,busy=1,0,1" "PUT,busy/big,busy,0,2" "PUT,busy/big,cut,1,2" "PUT,comp=blocklist,lost,0,1" "HEAD,busy/big,lost,0,1"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
works "throttling, cut connections and a lost answer to the end of an upload are tried again" fronted up1 src/big busy/big
check "each of them" test "$(told retries)" -ge 3
equal "each rule was met" 7 "$(grep -c busy/big "$T/front")"
front_start "$T" "$AZ_ENDPOINT" "GET,busy/big,busy,0,2" "GET,busy/big,cut,0,2" "GET,busy/big,flip,1,1" "GET,many/0003,flip,0,1"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
works "what comes damaged is fetched again" fronted down1 "$PWD/again" busy/big
check "and is the same" cmp again src/big
works "a small one, too" fronted down1 "$PWD/small" d/many/0003
check "and is the same" cmp small src/many/0003
front_start "$T" "$AZ_ENDPOINT" "GET,many/0004,flip,0,100" "PUT,never,busy,0,1000"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
fails "what always comes damaged is an error" "its MD5 is another one, twice \(-74\)" fronted down1 "$PWD/bad" d/many/0004
check "and is not left here" test ! -e bad
fails "a service that stays busy is given up" "busy and asks to slow down \(503 ServerBusy\)" fronted up1 src/many/0005 never
equal "after six tries" 6 "$(grep -c never "$T/front")"

# ---- who asks ----
sas() { access "$1" box-1 "$(at "$AZ_ENDPOINT")" "\"sas_token\":\"$(azure sas "$2" "${@:3}")\""; }
sas sas box-1
works "a SAS is good for going up" sas up1 src/big sas/big
works "and down" sas down1 "$PWD/by-sas" sas/big
check "and is the same" cmp by-sas src/big
works "and lists" sas ls sas/
sas expired box-1 se=2021-01-01T00:00:00Z
fails "an expired SAS is named with its end" "the SAS has expired: it ended at 2021-01-01T00:00:00Z \(se\), and it is 20[0-9-]*T[0-9:]*Z now.*\(-13\)" expired validate
fails "also where the answer has no words" "the SAS has expired: it ended at 2021-01-01" expired up1 other sas/x
sas early box-1 st=2035-01-01
fails "one that is not valid yet, too" "begins at 2035-01-01T00:00:00Z \(st\)" early validate
sas reader box-1 sp=rl
works "a SAS for reading reads" reader down1 "$PWD/read" sas/big
fails "and its missing right is named" "it allows 'rl' \(sp\), and this needs 'w' \(write\)" reader up1 other sas/new
sas writer box-1 sp=w
works "a SAS for writing alone is enough for going up" writer up1 src/big sas/written
fails "it does not list" "needs 'l' \(list\)" writer ls
sas elsewhere box-2
fails "a SAS of another container is refused" "for another container or account" elsewhere validate
access wrong box-1 "$(at "$AZ_ENDPOINT")" "\"account_key\":\"$(head -c 64 /dev/urandom | base64 -w0)\""
fails "a wrong key is named" "account key is not one of account '$AZ_ACCOUNT'.*\(-13\)" wrong validate
fails "also for files" "check account_key" wrong up src d
check "of which not all are tried, as they would fail alike" test "$(printf '%s\n' "$out" | grep -c ^failed)" -le 16
access nobody box-1 "$(at "$AZ_ENDPOINT")"
fails "none at all, too" "account_key or sas_token" nobody validate
front_start "$T" "$AZ_ENDPOINT" "*,/,old=1200,0,1000"
access fronted box-1 "$(at "$FRONT")" "$KEYED"
fails "a clock 20 minutes off is named with both times" "clock of this machine says 20[0-9-]*T[0-9:]*Z, that of the store 20.*timedatectl.*\(-62\)" fronted validate
fails "also where the answer has no words" "clock of this machine says" fronted up1 other clock/x

# ---- names ----
for name in "../x" "a/../x" "/x" "a//b" $'a\nb'; do
    fails "$(printf '%q' "$name") is no name" "cannot be the path of a file in an object store" key up1 other "$name"
done
fails "nor is what Azure does not keep" "Azure drops" key up1 other "a/b."

for name in "bad/a//b" "bad/c/./d" bad/e/f; do echo x | azure PUT "/box-1/$name" "" "x-ms-blob-type: BlockBlob" >/dev/null; done
fails "blobs whose names are no paths are not fetched, and the last words name the first and count the others" \
    'mover: "bad/a//b" cannot be the path.*\(and 1 more file failed\)' key down by-name bad --keep-going
equal "all others are" x "$(cat by-name/e/f)"

# ---- secrets ----
sig=$(azure sas box-1 | sed 's/.*sig=//')
all=$(for a in key expired early reader writer elsewhere wrong; do move $a validate; move $a ls; move $a up1 other s; done)
check "no text holds a key or a SAS" test -z "$(printf '%s' "$all" | grep -F -e "$sig" -e "sig=" -e "$AZ_KEY")"
