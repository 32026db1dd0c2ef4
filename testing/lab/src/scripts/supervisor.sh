# The lab's only process outside its namespaces. Lives as long as the lab, then sets back and removes what namespaces
# cannot: the kernel's settings, control groups and the lab's directory. Standard input is a pipe that the test process
# holds open; when that process ends, however it ends, the pipe closes, the lab's process 1 returns and the kernel kills
# all that is in there.
# $1: the lab's directory, $2: "keep" leaves that directory.
trap '' HUP INT TERM
directory=$1
exec 9>"$directory/lock"
flock 9
borrow_settings || exit
unshare --mount --net --pid --uts --ipc --fork --kill-child --propagation private sh "$directory/init.sh" "$directory"
give_settings_back
while read -r group; do
    for attempt in 1 2 3 4 5; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -e "$group" ] || break
        sleep 0.05
    done
done <"$directory/cgroups"
[ "$2" = keep ] || rm -rf --one-file-system "$directory"
