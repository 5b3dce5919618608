#!/usr/bin/perl
# Usage: .ci/doc_snippets.pl PAGE.md...: checks that every ```cpp block of the pages stands, word for word, in a file of examples/ or
# tests/, which are compiled, and every ```cmake block in a CMakeLists.txt of tests/. White space does not count.
# tests/quickstart/check.sh compiles those of docs/quickstart.md out of the page.
use strict;
use warnings;

sub squeeze { my ($text) = @_; $text =~ s/\s+//g; return $text; }
sub slurp { my ($file) = @_; local $/; open(my $in, '<', $file) or die "$file: $!\n"; return scalar <$in>; }

sub texts { return [map { squeeze(slurp($_)) } @_]; }

my %compiled = (
    cpp => texts(glob('examples/*.cpp examples/tour/*.cpp tests/*/*.cpp')),
    cmake => texts(glob('tests/*/CMakeLists.txt tests/*/*/CMakeLists.txt')),
);
my $missing = 0;
for my $page (grep { $_ ne 'docs/quickstart.md' } @ARGV) {
    my $text = slurp($page);
    while ($text =~ /^```(cpp|cmake)\n(.*?)^```/msg) {
        my ($language, $block) = ($1, $2);
        next if grep { index($_, squeeze($block)) >= 0 } @{$compiled{$language}};
        my ($first) = $block =~ /^(.*)$/m;
        print "$page: this block stands in no file that is built: $first\n";
        $missing = 1;
    }
}
exit $missing;
