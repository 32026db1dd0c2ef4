# From the module's `settings` to the configuration file, and from the names that options had before to the file's.
# Pure, and of `builtins` alone, so that it can be evaluated and tested without nixpkgs.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    genList
    isAttrs
    isFunction
    isList
    isPath
    length
    listToAttrs
    mapAttrs
    match
    replaceStrings
    split
    stringLength
    substring
    ;

  capitals = filter (c: c != "") (filter builtins.isString (split "" "ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
  small = filter (c: c != "") (filter builtins.isString (split "" "abcdefghijklmnopqrstuvwxyz"));

  # maxConcurrent -> max_concurrent
  snake =
    name:
    concatStringsSep "" (
      map (part: if isList part then "_" + replaceStrings capitals small (elemAt part 0) else part) (
        split "([A-Z])" name
      )
    );

  # What stands around a value, `mkIf` or `mkForce`, stays around it.
  within =
    f: value:
    if value ? _type && value ? content then
      value // { content = within f value.content; }
    else if value ? _type && value ? contents then
      value // { contents = map (within f) value.contents; }
    else
      f value;

  # A table in the spelling that options had, in the file's: minIdle -> min_idle. What people named keeps its name.
  table = within (
    value:
    if isAttrs value && !(value ? outPath) then
      listToAttrs (
        map (name: {
          name = if name == "caches" then "cache" else snake name;
          value = (if name == "caches" then tables else table) value.${name};
        }) (attrNames value)
      )
    else if isList value then
      map table value
    else if isFunction value then
      arguments: table (value arguments)
    else
      value
  );
  tables = within (mapAttrs (_: table));

  # Tables with names people choose: one in which nothing is set is still one.
  named = [
    "cache"
    "class"
    "credential"
    "service"
    "shared"
    "template"
  ];

  # Without what was not set. A path stays a name: a file that is named is never copied into the store.
  render =
    value:
    if isPath value then
      toString value
    else if isList value then
      map render value
    else if isAttrs value && !(value ? outPath) then
      listToAttrs (
        filter (entry: entry.value != null && entry.value != { }) (
          map (name: {
            inherit name;
            value =
              if elem name named && isAttrs value.${name} then
                mapAttrs (_: render) value.${name}
              else
                render value.${name};
          }) (attrNames value)
        )
      )
    else
      value;

  # What is written twice is decided by `over`.
  merge =
    under: over:
    under
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (under.${name} or null) then merge under.${name} value else value
    ) over;

  # Every secret's file there is in a value, under its name.
  secretFiles =
    name: value:
    if isAttrs value && !(value ? outPath) then
      concatMap (key: secretFiles (if name == "" then key else "${name}.${key}") value.${key}) (
        attrNames value
      )
    else if isList value then
      concatLists (
        genList (index: secretFiles "${name}[${toString index}]" (elemAt value index)) (length value)
      )
    else if value != null && match ".*_file" name != null then
      [ { inherit name value; } ]
    else
      [ ];

  only =
    holds: set:
    listToAttrs (
      map (name: {
        inherit name;
        value = set.${name};
      }) (filter (name: holds set.${name}) (attrNames set))
    );

  # The configuration with a service on the loopback; what classes that use it say of it, given where they find it.
  serve =
    name: port: settings: uses: classTables:
    merge settings {
      service.${name}.address = "127.0.0.1:${toString port}";
      class = mapAttrs (
        class: use:
        {
          services = [ name ] ++ (classTables.${class}.services or [ ]);
        }
        // use "http://${name}.host.internal:${toString port}"
      ) uses;
    };

  storeDir = builtins.storeDir + "/";
in
{
  inherit
    render
    snake
    table
    tables
    ;
  secretFiles = secretFiles "";

  # Whether a file would lie where every user can read it.
  inStore = path: substring 0 (stringLength storeDir) (toString path) == storeDir;

  # A host's name as the program fits it into names of runners.
  hostName =
    name:
    let
      short = substring 0 20 (replaceStrings (capitals ++ [ "_" ]) (small ++ [ "-" ]) name);
      trimmed = match "-*(.*[^-])-*" short;
    in
    if trimmed == null then null else elemAt trimmed 0;

  # The configuration with a registry on the loopback that each class with Docker asks before Docker Hub, unless it
  # names a mirror itself.
  withImageCache =
    classTables: port: settings:
    serve "image-cache" port settings (mapAttrs (_: _: at: { docker.mirror = at; }) (
      only (class: (class.docker.enable or false) && (class.docker.mirror or null) == null) classTables
    )) classTables;

  # The configuration with a binary cache on the loopback that Nix in each class asks as well.
  withNixCache =
    classTables: port: settings:
    serve "nix-cache" port settings (mapAttrs (_: class: at: {
      nix.substituters = [ at ] ++ (class.nix.substituters or [ ]);
    }) classTables) classTables;

  # The classes of a configuration file by name, with those that `runners` stands for.
  classTables =
    settings:
    let
      written = settings.class or { };
      short = listToAttrs (
        map (name: {
          inherit name;
          value = if match ".*-docker" name == null then { } else { docker.enable = true; };
        }) (settings.runners or [ ])
      );
      classes = merge written short;
    in
    if classes == { } then { default = { }; } else classes;
}
