# The kernel's settings in /proc/sys, but for those of networks, are the machine's and not the host's. Labs borrow them:
# the first of those that run at the same time writes down what they were, the last sets them back. If a lab's supervisor
# was killed, the next lab does that.

# Lost with the machine's own power, as what it describes is.
settings=/run/gha-lab-settings
saved="$settings/$(cat /proc/sys/kernel/random/boot_id)"

# All that can be set, but for a counter: lines of path:value.
read_settings() {
    find /proc/sys -path /proc/sys/net -prune -o -path /proc/sys/fs/binfmt_misc -prune -o \
        -type f -perm -u+rw ! -name ns_last_pid -exec grep --no-messages --with-filename '' {} +
}

save_settings() {
    read_settings >"$settings/new"
    mv "$settings/new" "$saved"
}

restore_settings() {
    read_settings >"$settings/now"
    grep --fixed-strings --line-regexp --invert-match --file="$settings/now" "$saved" |
        while IFS= read -r line; do
            printf '%s\n' "${line#*:}" >"${line%%:*}"
        done
    rm "$settings/now" "$saved"
}

# All who borrow share a lock on file 8. It stays open in the lab's world, which can outlive this process. Only one at a
# time borrows or gives back.
borrow_settings() {
    mkdir -p "$settings"
    exec 7>"$settings/turn" 8>"$settings/borrowed"
    if ! flock --timeout 30 7; then
        echo "cannot borrow the kernel's settings: for 30 s another lab has held $settings/turn" >&2
        return 1
    fi
    if flock --nonblock 8 && [ -e "$saved" ]; then restore_settings; fi
    [ -e "$saved" ] || save_settings
    flock --shared 8
    exec 7>&-
}

give_settings_back() {
    exec 7>"$settings/turn"
    flock --timeout 30 7
    if flock --nonblock 8 && [ -e "$saved" ]; then restore_settings; fi
    exec 8>&- 7>&-
}
