# What `userborn CONFIGURATION DIRECTORY` makes of users and groups that are all new: group, passwd and shadow.
use strict;
use warnings;
use JSON;

my ($configuration, $directory) = @ARGV;
open my $in, "<", $configuration or die "$configuration: $!";
my $wanted = decode_json(do { local $/; <$in> });
my (%gids, %files);
my $free = 999;
my %taken = map { $_->{gid} // -1 => 1 } @{ $wanted->{groups} };
$taken{ $_->{uid} // -1 } = 1 for @{ $wanted->{users} };
sub next_id { $free-- while $taken{$free}; return $free-- }
for my $group (@{ $wanted->{groups} }) {
    $gids{ $group->{name} } = $group->{gid} // next_id();
    $files{group} .= join(":", $group->{name}, "x", $gids{ $group->{name} }, join ",", @{ $group->{members} }) . "\n";
}
for my $user (@{ $wanted->{users} }) {
    my $uid = $user->{uid} // next_id();
    my $password = $user->{hashedPassword} // $user->{initialHashedPassword} // "!*";
    $files{passwd} .=
        join(":", $user->{name}, "x", $uid, $gids{ $user->{group} }, @$user{qw(description home shell)}) . "\n";
    $files{shadow} .= "$user->{name}:$password:1::::::\n";
}
for my $file (keys %files) {
    open my $out, ">", "$directory/$file" or die "$directory/$file: $!";
    print $out $files{$file};
}
