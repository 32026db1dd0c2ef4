# Links what Debian's packages have into the output of a package. Arguments: the copied tree, the output, the packages.
use strict;
use warnings;
use File::Basename;
use File::Path qw(make_path);

my ($tree, $output, @packages) = @ARGV;
for my $package (@packages) {
    my ($list) = grep { -e } map { "/var/lib/dpkg/info/$package$_.list" } "", ":amd64";
    next unless $list;
    open my $lines, "<", $list or die "$list: $!";
    while (my $path = <$lines>) {
        chomp $path;
        $path =~ s{^/usr/}{} or $path =~ s{^/(s?bin|lib|lib64)/}{$1/} or next;
        # What debian.sh has set aside.
        (my $source = $path) =~ s{^lib/(?=(systemd/(system|user)|tmpfiles\.d|sysctl\.d|sysusers\.d)/)}{example/};
        $source = "$tree/$source";
        next unless -l $source or -f $source;
        # As nixpkgs lays packages out.
        (my $place = $path) =~ s{^sbin/}{bin/};
        $place =~ s{^lib/x86_64-linux-gnu/}{lib/};
        next if -l "$output/$place";
        make_path(dirname("$output/$place"));
        symlink $source, "$output/$place" or die "$output/$place: $!";
    }
}
symlink "bin", "$output/sbin" if -d "$output/bin" and not -e "$output/sbin";
