# From the module's options to the configuration file: names in the file's spelling, nothing that was left out.
# Pure, and of `builtins` alone, so that it can be evaluated and tested without nixpkgs.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elemAt
    filter
    isAttrs
    isList
    isPath
    listToAttrs
    mapAttrs
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

  # Whether a file would lie where every user can read it.
  inStore = path: substring 0 (stringLength storeDir) (toString path) == storeDir;

  # The whole configuration file.
  #   options: those that are keys of the file; targets: tables in their order; settings: whatever else, which wins.
  make =
    {
      options ? { },
      targets ? [ ],
      settings ? { },
    }:
    let
      all = map section targets ++ settings.target or [ ];
    in
    merge (section options) (settings // (if all == [ ] then { } else { target = all; }));
}
