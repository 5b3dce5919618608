#!/usr/bin/perl
# Usage: .ci/paths_named.pl PAGE.md...: whether the files of this tree that the pages name, as `src/loop/timers.hpp` or, short for
# include/aio/detail/task/await.hpp, as `detail/task/await.hpp`, are there.
use strict;
use warnings;

my $missing = 0;
for my $page (@ARGV) {
    open(my $in, '<', $page) or die "$page: $!\n";
    while (my $line = <$in>) {
        while ($line =~ m{(?<![\w/.])((?:src|include|tests|examples|bench|detail)/[\w./]*\w\.(?:[hc]pp|py|pl))}g) {
            my $named = $1;
            (my $file = $named) =~ s{^detail/}{include/aio/detail/};
            next if -e $file;
            print "$page:$.: there is no $named\n";
            $missing = 1;
        }
    }
}
exit $missing;
