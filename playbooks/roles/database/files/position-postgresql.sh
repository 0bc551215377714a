# Prints: SYSTEM TIMELINE:LSN CONTENT of the PostgreSQL cluster in $1, with the programs of $2. Reads only.
# After a power cut the control file is behind; how far the copy goes is what the write-ahead log still holds.
set -eu
data=$1
programs=$2
export LC_ALL=C
control=$("$programs/pg_controldata" "$data")
field() {
  printf '%s\n' "$control" | sed -n "s/^$1: *//p"
}
timeline=$(field "Latest checkpoint's TimeLineID")
redo=$(field "Latest checkpoint's REDO location")
# Ends with an error where the log ends: that is what is looked for.
last=$("$programs/pg_waldump" --path="$data/pg_wal" --timeline="$timeline" --start="$redo" 2>/dev/null | tail -n 1)
lsn=$(printf '%s\n' "$last" | sed -n 's/.* lsn: \([0-9A-F]*\/[0-9A-F]*\),.*/\1/p')
test -n "$lsn" || { echo "no record of the log in $data/pg_wal can be read from $redo on" >&2; exit 1; }
set -- $(printf '%s\n' "$last" | cksum)
echo "$(field 'Database system identifier') $timeline:$lsn $1"
