#!/usr/bin/perl
# Usage: .ci/doc_snippets.pl PAGE.md...: checks that every ```cpp block of the pages stands, word for word, in a file of examples/ or
# tests/, which are compiled. White space does not count. tests/quickstart/check.sh compiles those of docs/quickstart.md out of the page.
use strict;
use warnings;

sub squeeze { my ($text) = @_; $text =~ s/\s+//g; return $text; }
sub slurp { my ($file) = @_; local $/; open(my $in, '<', $file) or die "$file: $!\n"; return scalar <$in>; }

my %compiled = map { $_ => squeeze(slurp($_)) } glob('examples/*.cpp examples/tour/*.cpp tests/*/*.cpp');
my $missing = 0;
for my $page (grep { $_ ne 'docs/quickstart.md' } @ARGV) {
    my $text = slurp($page);
    while ($text =~ /^```cpp\n(.*?)^```/msg) {
        my $block = $1;
        next if grep { index($_, squeeze($block)) >= 0 } values %compiled;
        my ($first) = $block =~ /^(.*)$/m;
        print "$page: this block stands in no compiled file: $first\n";
        $missing = 1;
    }
}
exit $missing;
