# nixpkgs whose packages are Debian's programs: its own stdenv for a machine that has tools of its own (pkgs/stdenv/native),
# and an overlay in which each package that would be downloaded is a directory of links to what the same Debian packages
# have. Evaluated and built inside a Debian tree.
{ nixpkgs, programs }:
let
  lib = import (nixpkgs + "/lib");
  # What nixpkgs says of its packages: nothing of it is built.
  known = import nixpkgs {
    system = "x86_64-linux";
    config = { };
    overlays = [ ];
  };

  # Which of Debian's packages have what a package of nixpkgs has.
  table = {
    acl = "acl";
    attr = "attr";
    bash = "bash";
    bash-completion = "bash-completion";
    bashInteractive = "bash";
    bashNonInteractive = "bash";
    binutils = "binutils binutils-x86-64-linux-gnu binutils-common";
    btrfs-progs = "btrfs-progs";
    bzip2 = "bzip2";
    cacert = "ca-certificates";
    coreutils = "coreutils";
    coreutils-full = "coreutils";
    cpio = "cpio";
    curl = "curl";
    dbus = "dbus dbus-bin dbus-daemon dbus-system-bus-common dbus-session-bus-common";
    dbus-broker = "dbus-broker";
    diffutils = "diffutils";
    docker = "docker.io docker-cli runc";
    dosfstools = "dosfstools";
    e2fsprogs = "e2fsprogs";
    file = "file";
    findutils = "findutils";
    fontconfig = "fontconfig";
    fuse = "fuse3";
    fuse3 = "fuse3";
    gawk = "gawk";
    gcc = "gcc gcc-16 gcc-x86-64-linux-gnu gcc-16-x86-64-linux-gnu cpp cpp-x86-64-linux-gnu";
    getent = "libc-bin";
    gettext = "gettext-base";
    getconf = "libc-bin";
    git = "git";
    gitMinimal = "git";
    glibc = "libc6 libc-bin";
    glibcLocales = "libc-bin";
    gnugrep = "grep";
    gnumake = "make";
    gnused = "sed";
    gnutar = "tar";
    gzip = "gzip";
    hostname-debian = "hostname";
    iproute2 = "iproute2";
    iptables = "iptables";
    iputils = "iputils-ping";
    jq = "jq";
    kbd = "kbd";
    kexec-tools = "hostname";
    kmod = "kmod";
    less = "less";
    libcap = "libcap2-bin";
    libressl = "openssl";
    libxml2 = "libxml2-utils";
    libxslt = "xsltproc";
    linux-pam = "libpam0g libpam-modules libpam-modules-bin";
    logrotate = "logrotate";
    lvm2 = "lvm2 dmsetup";
    man-db = "man-db";
    moreutils = "moreutils";
    nano = "nano";
    ncurses = "ncurses-bin ncurses-base";
    nettools = "hostname";
    net-tools = "hostname";
    nftables = "nftables";
    nix = "nix-bin nix-setup-systemd";
    openssh = "openssh-client";
    openssl = "openssl";
    pam = "libpam0g libpam-modules libpam-modules-bin";
    patchelf = "patchelf";
    perl = "perl perl-base perl-modules-5.42 libjson-perl libfile-slurp-perl libnet-dbus-perl";
    polkit = "polkitd pkexec";
    procps = "procps";
    python3 = "python3 python3-minimal python3.14 python3.14-minimal";
    python3Minimal = "python3 python3-minimal python3.14 python3.14-minimal";
    rsync = "rsync";
    shadow = "passwd login uidmap util-linux-extra";
    shared-mime-info = "shared-mime-info";
    sqlite = "sqlite3";
    strace = "strace";
    su = "util-linux";
    sudo = "sudo";
    systemd = "systemd systemd-sysv systemd-container udev libsystemd-shared libpam-systemd systemd-resolved";
    texinfo = "texinfo";
    time = "time";
    tzdata = "tzdata";
    unzip = "unzip";
    util-linux = "util-linux util-linux-extra mount bsdextrautils eject login";
    util-linuxMinimal = "util-linux util-linux-extra mount bsdextrautils login";
    wget = "wget";
    which = "debianutils";
    xz = "xz-utils";
    zstd = "zstd";
  }
  # Of these Debian's tree has nothing: an empty directory each.
  // lib.genAttrs [
    "cmake"
    "gh"
    "git-lfs"
    "gnupg"
    "patch"
    "pkg-config"
    "zip"
    "icu"
    "krb5"
    "libkrb5"
    "lttng-ust"
    "zlib"
    "libssh"
    "libsodium"
    "util-linux-libs"
    "libcxx"
    "github-runner"
    "nix-ld"
    "gnupatch"
    "netcat"
    "mkpasswd"
    "bcache-tools"
    "bind"
    "dash"
    "iana-etc"
    "linuxHeaders"
    "lkl"
    "lklWithFirewall"
    "mdadm"
    "nix-bash-completions"
    "nixos-init"
    "xauth"
  ] (_: "");

  overlay =
    final: previous:
    let
      borrow =
        name: packages: more:
        let
          old = known.${name};
        in
        final.stdenvNoCC.mkDerivation {
          pname = old.pname or name;
          version = old.version or "0";
          outputs = old.outputs or [ "out" ];
          passthru = (old.passthru or { }) // {
            override = _: final.${name};
            util-linux = final.util-linux;
          };
          meta = old.meta or { };
          inherit (final) debian;
          inherit packages;
          buildCommand = ''
            for output in $outputs; do
              mkdir -p "''${!output}"
              case $output in man | doc | info | devdoc | devman | debug) ;; *) perl ${./borrow.pl} "$debian" "''${!output}" $packages ;; esac
              # Units are of one output.
              [ "$output" = "''${outputs%% *}" ] || rm -rf "''${!output}/lib/systemd"
            done
            ${more}
          '';
        };
      borrowed = lib.mapAttrs (name: packages: borrow name packages (extra.${name} or "")) (
        lib.filterAttrs (name: _: known ? ${name}) table
      );
      extra =
        lib.genAttrs [ "bash" "bashInteractive" "bashNonInteractive" ] (_: "ln -s bash $out/bin/sh\n")
        // {
          util-linux = ''
            mkdir -p "$lastlog/lib/tmpfiles.d"
            touch "$lastlog/lib/tmpfiles.d/lastlog2.conf"
          '';
          cacert = ''
            mkdir -p "$out/etc/ssl/certs"
            ln -s "$debian/etc/ssl/certs/ca-certificates.crt" "$out/etc/ssl/certs/ca-bundle.crt"
          '';
          # Finds its helpers on its search path.
          docker = ''
            rm "$out/bin/dockerd"
            printf '#!%s\nPATH=%s:%s:$PATH exec %s "$@"\n' "$debian/bin/bash" "$debian/bin" "$debian/sbin" \
              "$debian/sbin/dockerd" >"$out/bin/dockerd"
            chmod +x "$out/bin/dockerd"
          '';
          # The loader itself, which knows nothing of NIX_LD: a program has to find its libraries.
          nix-ld = ''
            mkdir -p "$out/libexec"
            ln -s "$debian/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$out/libexec/nix-ld"
          '';
          shadow = ''
            ln -sfn "$debian/bin/su" "$su/bin/su"
          '';
          systemd = ''
            # Where NixOS takes them from, one by one.
            rm -r "$out"/lib/{systemd/{system,user},tmpfiles.d,sysctl.d,sysusers.d}
            cp --recursive "$debian/example" "$out/example"
            chmod -R u+w "$out/example"
            # Units that NixOS wants and Debian has not.
            grep -rhoE '"[A-Za-z0-9@_.-]+[.](service|socket|target|timer|mount|automount|path|slice)"' \
              ${nixpkgs + "/nixos/modules/system/boot"} | tr -d '"' | while read -r unit; do
              for kind in system user; do
                [ -e "$out/example/systemd/$kind/$unit" ] || ln -s /dev/null "$out/example/systemd/$kind/$unit"
              done
            done
          '';
        };
      # Programs that cargo built, with the tree's loader.
      mine =
        name: files:
        final.runCommand name { meta.mainProgram = name; } (
          "mkdir -p $out/bin\n"
          + lib.concatMapStrings (file: ''
            cp ${programs + "/${file}"} $out/bin/${file}
            chmod u+w $out/bin/${file}
            libraries=${final.debian}/lib/x86_64-linux-gnu
            if patchelf --print-interpreter $out/bin/${file} >/dev/null 2>&1; then
              patchelf --set-interpreter $libraries/ld-linux-x86-64.so.2 --force-rpath --set-rpath $libraries $out/bin/${file}
            fi
          '') files
        );
      script = name: text: final.writeScriptBin name "#!${final.bash}/bin/bash\n${text}";
    in
    borrowed
    // {
      # The tree's own /usr, with programs that find their libraries wherever it lies.
      debian = final.runCommand "debian" { } "bash ${./debian.sh}";

      # Of this workspace.
      gha-runner-controller = mine "gha-runner-controller" [
        "gha-runner-controller"
        "gha-runner-guest"
      ];
      gha-runner-laboratory = mine "gha-runner-laboratory" [
        "fakerunner"
        "scenario"
      ];
      switch-to-configuration-ng = mine "switch-to-configuration" [ "switch-to-configuration" ];

      # What nobody builds here is not to take the tree's compiler for its own.
      stdenv = previous.stdenv // {
        cc = previous.stdenv.cc // {
          nativeTools = false;
          nativeLibc = false;
          nativePrefix = "";
          isGNU = true;
          libc = final.glibc;
          cc = final.gcc;
          bintools = previous.stdenv.cc.bintools // {
            bintools = final.binutils;
            dynamicLinker = "${final.debian}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
          };
        };
      };
      # setuid wrappers (nixos/modules/security/wrappers) are static there.
      pkgsStatic = {
        callPackage =
          file: arguments:
          (final.callPackage file arguments).overrideAttrs (old: {
            CFLAGS = old.CFLAGS ++ [ "-static" ];
          });
      };
      # What they need of glibc's sources is a header.
      srcOnly =
        package:
        if package == final.glibc then
          final.stdenv.mkDerivation {
            name = "glibc";
            dontUnpack = true;
            buildPhase = ''
              mkdir -p sysdeps/generic
              echo '#define UNSECURE_ENVVARS "LD_PRELOAD\0" "LD_LIBRARY_PATH\0"' >sysdeps/generic/unsecvars.h
            '';
            installPhase = "true";
          }
        else
          known.srcOnly package;
      lndir = script "lndir" ''exec cp --recursive --symbolic-link --no-target-directory "$(realpath "''${@: -2:1}")" "''${@: -1}"'';
      perl = borrowed.perl // {
        withPackages = _: final.perl;
      };
      openresolv = script "resolvconf" "exit 0";
      userborn = script "userborn" "exec perl ${./userborn.pl} \"$@\"";
      systemdMinimal = final.systemd;
      udev = final.systemd;
    };
in
import nixpkgs {
  system = "x86_64-linux";
  config = { };
  overlays = [ overlay ];
  # Without the last stage, which builds xz and patchelf.
  stdenvStages =
    arguments:
    lib.take 2 (
      import (nixpkgs + "/pkgs/stdenv/native") (lib.removeAttrs arguments [ "crossOverlays" ])
    );
}
