# Runs programs in the container that it is started in, for the flow in the container beside it.
#
#     /simopt/busybox sh /simopt/runner.sh [FOLDER, if it is not /simopt]
#
# The two share one folder. A request is a folder requests/ID with the working directory (cwd), arguments (arg.0, arg.1
# and so on), environment (env.0 and so on, NAME=value) and, when it is complete, the file `go`. The program's output
# goes to `output`, and how it ended to `code`: its exit status, then how often the kernel had killed for want of memory
# in this container before and after. A file `stop` in the request ends the program with all its processes. What lies in
# trash/ is removed: only the user who wrote a file may be able to. `boot` tells one start of this container from another.
#
# Every command is busybox's own or a path, so that an image without a shell or any other program will do.
home=${1:-/simopt}
busybox=$home/busybox
newline='
'
umask 002
trap 'exit 0' TERM INT

kills() {  # how often the kernel has killed here for want of memory
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r $file ] || continue
    while read -r word count; do
      [ "$word" = oom_kill ] && echo "$count" && return
    done <$file
  done
  echo 0
}

find_program() {  # NAME: its path, by this image's own PATH and never among busybox's applets
  case $1 in */*) echo "$1"; return ;; esac
  rest=$PATH:
  while [ -n "$rest" ]; do
    folder=${rest%%:*}
    rest=${rest#*:}
    [ -f "${folder:-.}/$1" ] && [ -x "${folder:-.}/$1" ] && echo "${folder:-.}/$1" && return
  done
  return 1
}

content() {  # FILE: sets `word` to its lines, without the last newline; by the shell alone, since a process costs more
  word=
  between=
  while IFS= read -r line; do
    word=$word$between$line
    between=$newline
  done <"$1"
}

serve() {  # REQUEST
  request=$1
  before=$(kills)
  content "$request/cwd"
  if ! cd "$word" 2>/dev/null; then
    answer "$request" "none the directory $word is not shared"
    return
  fi
  run "$request" &
  child=$!
  while kill -0 $child 2>/dev/null && [ ! -e "$request/stop" ]; do
    $busybox sleep 0.05
  done
  [ -e "$request/stop" ] && kill -KILL -$child 2>/dev/null
  wait $child
  code=$?
  kill -KILL -$child 2>/dev/null
  [ -e "$request/code" ] || answer "$request" "$code $before $(kills)"
}

run() {  # REQUEST: becomes the program, in a process group of its own
  i=0
  while [ -e "$1/env.$i" ]; do
    content "$1/env.$i"
    export "$word"
    i=$((i + 1))
  done
  i=0
  while [ -e "$1/arg.$i" ]; do
    content "$1/arg.$i"
    set -- "$@" "$word"
    i=$((i + 1))
  done
  request=$1
  shift
  if ! program=$(find_program "$1") || ! [ -x "$program" ]; then
    answer "$request" "none the image has no program $1 that may be run"
    exit
  fi
  shift
  exec $busybox setsid "$program" "$@" </dev/null >>"$request/output" 2>&1
}

answer() {  # REQUEST LINE
  echo "$2" >"$1/code.new"
  $busybox mv "$1/code.new" "$1/code"
}

for folder in requests trash trials; do
  [ -d $home/$folder ] || $busybox mkdir -p $home/$folder
done
read -r boot </proc/sys/kernel/random/uuid
echo "$boot" >$home/boot.new
$busybox mv $home/boot.new $home/boot
for request in $home/requests/*; do  # of a start before this one
  [ -e "$request/go" ] && [ ! -e "$request/code" ] && answer "$request" "lost"
done
while :; do
  for go in $home/requests/*/go; do
    [ -e "$go" ] || continue
    $busybox mv "$go" "${go%go}gone"
    serve "${go%/go}"
    cd /
  done
  for rubbish in $home/trash/*; do
    [ -e "$rubbish" ] && $busybox rm -rf "$rubbish"
  done
  $busybox sleep 0.05
done
