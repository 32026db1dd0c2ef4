# Copies the /usr of the Debian tree that this runs in to $out. Each program there finds the tree's own loader and
# libraries where they lie now; what would act on the machine below a host that boots from it stays out.
set -euo pipefail
mkdir -p "$out/share"
for directory in bin sbin lib lib64 libexec share/{perl,perl5,dbus-1,polkit-1,git-core,zoneinfo,terminfo,misc,bash-completion}; do
    [ ! -e "/usr/$directory" ] || cp --recursive --no-dereference --preserve=links "/usr/$directory" "$out/$directory"
done
mkdir -p "$out/etc/ssl/certs"
cp --dereference /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/"
cd "$out"
chmod -R u+w .

# Links that lead back into the tree, or through its /etc/alternatives.
find . -type l -lname '/*' -printf '%p\t%l\n' | while IFS=$'\t' read -r link target; do
    real=$(readlink -f "$target") || real=
    case $real in
    /usr/*) ln -sfn "$out/${real#/usr/}" "$link" ;;
    *) rm "$link" ;;
    esac
done

libraries=$out/lib/x86_64-linux-gnu
loader=$libraries/ld-linux-x86-64.so.2
path=$libraries:$libraries/systemd:$out/libexec/sudo
export loader path
# An RPATH of a program counts for what its libraries load, too; a RUNPATH of a library would be asked in its place.
find bin sbin lib libexec -type f -perm -u+x ! -name 'ld-linux*' -print0 |
    xargs -0 -n 64 -P 2 perl -e '
        for my $file (@ARGV) {
            open my $in, "<", $file or next;
            read $in, my $head, 256;
            if ($head =~ /^\x7fELF/) {
                next unless `patchelf --print-interpreter $file 2>/dev/null`;
                system("patchelf", "--set-interpreter", $ENV{loader}, "--force-rpath", "--set-rpath", $ENV{path}, $file);
            } elsif ($head =~ m{^#! ?/usr/bin/(\S+)} and $1 ne "env") {
                local $/; seek $in, 0, 0; my $text = <$in>;
                $text =~ s{^#! ?/usr/}{#!$ENV{out}/};
                open my $out, ">", $file; print $out $text;
            }
        }'
find "$libraries/systemd" -name '*.so*' -type f -exec patchelf --force-rpath --set-rpath "$path" {} +

# systemd and udev look below /usr/lib by themselves. What NixOS takes of it, it takes from its package (systemd.sh).
mkdir -p example/systemd
for directory in systemd/system systemd/user tmpfiles.d sysctl.d sysusers.d; do
    mv "lib/$directory" "example/$directory"
done
# A program is named with its path, or is looked for in the directories that systemd was built with.
find example/systemd -type l -lname '/*' -delete
find example/systemd -type f -exec sed -E -i \
    -e "s#/usr/(lib/systemd|libexec|s?bin)/#$out/\1/#g" \
    -e "s#^(Exec[A-Za-z]*=[-+!:@]*)([a-z][a-z0-9-]*)( |\$)#\1$out/bin/\2\3#" {} +
# Of the machine's kernel, which no test wants to be set.
for file in example/sysctl.d/*; do : >"$file"; done
: >example/sysctl.d/50-default.conf
: >example/sysctl.d/50-coredump.conf
rm -rf lib/modprobe.d lib/modules-load.d lib/systemd/{system,user}-preset lib/systemd/network/*.network \
    lib/systemd/*.conf.d lib/environment.d lib/binfmt.d
# The kernel is the machine's: only rules for network links, and what systemd makes of devices (the laboratory's own
# host is the same, testing/lab/src/scripts/box-tree.sh).
for rules in lib/udev/rules.d/*.rules; do
    case ${rules##*/} in
    *-net-*.rules | 99-systemd.rules) ;;
    50-udev-default.rules) sed -i '/^SUBSYSTEM=="net"/!d' "$rules" ;;
    *) rm "$rules" ;;
    esac
done
