# From the module's options to the configuration file: names in the file's spelling, nothing that was left out.
# Pure, and of `builtins` alone, so that it can be evaluated and tested without nixpkgs.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elemAt
    filter
    genList
    isAttrs
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

  # Tables with names people choose: what each is called in the file.
  named = {
    caches = "cache";
    classes = "class";
    credentials = "credential";
    shared = "shared";
    templates = "template";
  };

  # Without what was not set. A path stays a name: a file that is named is never copied into the store.
  section =
    attrs:
    listToAttrs (
      filter (entry: entry.value != null && entry.value != { }) (
        map (
          name:
          let
            value = attrs.${name};
          in
          if isAttrs value && named ? ${name} then
            {
              name = named.${name};
              value = mapAttrs (_: section) value;
            }
          else
            {
              name = snake name;
              value =
                if isAttrs value then
                  section value
                else if isPath value then
                  toString value
                else
                  value;
            }
        ) (attrNames attrs)
      )
    );

  # Of what people wrote in the file's spelling, likewise.
  plain =
    value:
    if isPath value then
      toString value
    else if isList value then
      map plain value
    else if isAttrs value && !(value ? outPath) then
      mapAttrs (_: plain) value
    else
      value;

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
    else if value != null && match ".*(File|_file)" name != null then
      [ { inherit name value; } ]
    else
      [ ];

  # Keys that both have.
  twice =
    prefix: one: other:
    concatMap (
      key:
      if !(other ? ${key}) then
        [ ]
      else if isAttrs one.${key} && isAttrs other.${key} then
        twice "${prefix}${key}." one.${key} other.${key}
      else
        [ "${prefix}${key}" ]
    ) (attrNames one);

  # What is written twice is decided by `over`.
  merge =
    under: over:
    under
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (under.${name} or null) then merge under.${name} value else value
    ) over;

  storeDir = builtins.storeDir + "/";
in
{
  inherit snake merge;
  secretFiles = secretFiles "";
  # Keys that `settings` has beside an option of its own.
  twice = options: settings: twice "" (section options) settings;

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

  # The whole configuration file.
  #   options: those that are keys of the file; targets: tables in their order; settings: whatever else, which wins.
  make =
    {
      options ? { },
      targets ? [ ],
      settings ? { },
    }:
    let
      written = plain settings;
      all = map section targets ++ written.target or [ ];
    in
    merge (section options) (written // (if all == [ ] then { } else { target = all; }));
}
