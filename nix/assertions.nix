# What the host of a configuration, or the configuration itself, cannot have: what is wrong, and what to write instead. What
# the program refuses by itself is not among it.
{
  config,
  lib,
  # The configuration file.
  settings,
  # Its classes.
  classTables,
  # The templates that are systems, evaluated.
  containers,
}:
let
  cfg = config.services.gha-runner-controller;
  pure = import ./settings.nix;
  option = "services.gha-runner-controller";
  count = lib.count (value: value != null);

  # What would be wrong with a secret's file.
  exposed =
    { name, value }:
    if pure.inStore value then
      ''
        ${option}.${name}: ${toString value} is in the Nix store, which every user and every job can read. Remedy:
        name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
        because a path without them is copied into the store.
      ''
    else if builtins.isPath value then
      ''
        ${option}.${name}: ${toString value} is a path without quotes, which Nix copies into its store, where every user
        and every job can read it, as soon as it becomes a text. Remedy: write "${toString value}".
      ''
    else
      null;

  # The ids that containers have: 65,536 for each subnet.
  idsFirst = settings.ids.first or 536870912;
  idsEnd =
    let
      pool = settings.network.pool or null;
      width = builtins.match "[^/-]+/([0-9]+)" pool;
      subnets =
        if pool == null then
          100
        else if width == null then
          1
        else
          lib.foldl' (count: _: count * 2) 1 (
            lib.range 1 ((settings.network.prefix or 24) - lib.toInt (lib.head width))
          );
    in
    idsFirst + subnets * 65536;
  delegated =
    name: user:
    map
      (
        { start, count }:
        let
          end = start + count;
        in
        {
          assertion = end <= idsFirst || start >= idsEnd;
          message = ''
            ${option}.settings.ids.first: the ids of containers, from ${toString idsFirst} on, reach into those that users.users.${name}
            may give away, ${toString start}-${toString (end - 1)}. Remedy: settings.ids.first = ${
              toString ((end + 65535) / 65536 * 65536)
            };
          '';
        }
      )
      (
        # Of users and of groups they are often the same.
        lib.unique (
          map (range: {
            start = range.startUid or range.startGid;
            inherit (range) count;
          }) (user.subUidRanges ++ user.subGidRanges)
        )
      );

  # What on this host needs a kernel module that is blocked.
  needs = what: enabled: modules: {
    assertion = !enabled || lib.intersectLists modules cfg.blockedKernelModules == [ ];
    message = ''
      ${option}.blockedKernelModules: ${what} needs ${toString (lib.intersectLists modules cfg.blockedKernelModules)}.
      Remedy: blockedKernelModules = [ ${toString (map builtins.toJSON (lib.subtractLists modules cfg.blockedKernelModules))} ];
    '';
  };
  ipsec = [
    "esp4"
    "esp6"
  ];
  ciphers = [
    "af_alg"
    "algif_hash"
    "algif_skcipher"
  ];
in
map
  (file: {
    assertion = exposed file == null;
    message = exposed file;
  })
  (
    # Not of templates, which have none: a system is evaluated after what it says of itself, below.
    pure.secretFiles { settings = lib.removeAttrs cfg.settings [ "template" ]; }
  )
++ [
  {
    assertion = !config.boot.isContainer;
    message = ''
      ${option}.enable: this system is a container (boot.isContainer), which has no ids, links and mounts to give to
      containers of its own. Remedy: enable it on the machine, or in a virtual machine.
    '';
  }
  {
    assertion =
      config.security.allowUserNamespaces
      || lib.all (class: class.privileged or false) (lib.attrValues classTables);
    message = ''
      security.allowUserNamespaces: without user namespaces no container boots. Remedy: leave it on, or choose
      another host; `privileged = true` in every class does without, and gives each job the host's root.
    '';
  }
  {
    assertion =
      !config.boot.kernel.enable || lib.versionAtLeast config.boot.kernelPackages.kernel.version "5.19";
    message = ''
      boot.kernelPackages: Linux ${config.boot.kernelPackages.kernel.version} cannot map the ids of an overlay's
      layers. Remedy: 5.19 or newer, for example pkgs.linuxPackages.
    '';
  }
]
++
  map
    (key: {
      assertion =
        !lib.elem (config.boot.kernel.sysctl.${key} or null) [
          0
          "0"
          false
        ];
      message = ''
        boot.kernel.sysctl."${key}": with 0 the host forwards nothing, and no container reaches the internet. Remedy:
        leave it out; the fence (docs/security.md) decides what is forwarded for containers.
      '';
    })
    [
      "net.ipv4.ip_forward"
      "net.ipv4.conf.all.forwarding"
    ]
++ lib.concatLists (lib.mapAttrsToList delegated config.users.users)
++ lib.mapAttrsToList (
  name: class:
  let
    template = class.template or "default";
  in
  {
    assertion =
      !(class.docker.enable or false)
      || !(containers ? ${template})
      || containers.${template}.config.virtualisation.docker.enable;
    message = ''
      ${option}.settings.class.${name}.docker.enable: there is no Docker in the template ${template}. Remedy:
      virtualisation.docker.enable = true in its configuration, or another template.
    '';
  }
) classTables
++ lib.mapAttrsToList (name: credential: {
  assertion =
    (credential.token_file != null)
    != (credential.app_id != null && credential.private_key_file != null);
  message = ''
    ${option}.settings.credential.${name}: neither a token nor an App, or both. Remedy: set token_file, or app_id and
    private_key_file.
  '';
}) cfg.settings.credential
++ lib.imap0 (index: target: {
  assertion =
    count [
      target.repo
      target.org
      target.user
      target.enterprise
      (if target.instance == true then true else null)
    ] == 1;
  message = ''
    ${option}.settings.target[${toString index}]: names none or several of repo, org, user, enterprise and instance.
    Remedy: name one in each target.
  '';
}) cfg.settings.target
++ lib.mapAttrsToList (name: template: {
  assertion = template.path == null || template.runner_dir == null;
  message = ''
    ${option}.settings.template.${name}: a tree brings its own runner. Remedy: put the runner into the tree, or leave
    runner_dir out.
  '';
}) cfg.settings.template
++ lib.mapAttrsToList (name: template: {
  assertion = template.path != null || template.nix_store == null;
  message = ''
    ${option}.settings.template.${name}: nix_store is of a tree. Remedy: leave it out; a system always sees the host's
    store.
  '';
}) cfg.settings.template
++ [
  (needs "networking.wireless.iwd.enable" config.networking.wireless.iwd.enable ciphers)
  (needs "services.strongswan.enable" config.services.strongswan.enable ipsec)
  (needs "services.strongswan-swanctl.enable" config.services.strongswan-swanctl.enable ipsec)
  (needs "services.libreswan.enable" config.services.libreswan.enable ipsec)
  (needs "boot.kernelModules" true config.boot.kernelModules)
]
# What the container's own configuration says about itself.
++ lib.concatLists (
  lib.mapAttrsToList (
    name: container:
    map (
      found: found // { message = "${option}.templates.${name}: ${found.message}"; }
    ) container.config.assertions
  ) containers
)
