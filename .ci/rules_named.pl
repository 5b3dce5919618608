#!/usr/bin/perl
# Usage: .ci/rules_named.pl: checks that a test names each of the 181 rules of asyncio's semantics ("rule 62: ..."), and that
# docs/from_asyncio/rules.md has a row for each of them. That page, docs/internals/cancellation.md and docs/guide/machines.md
# name only tests that exist. The script checks, too, that a test names each fault that reviewers found ("fault C1: ..."). C stands
# for the core, N for HTTP, SQL and files, P for what newcomers and packagers met.
use strict;
use warnings;

my $page = 'docs/from_asyncio/rules.md';
my $last = 181;
sub slurp { my ($file) = @_; local $/; open(my $in, '<', $file) or die "$file: $!\n"; return scalar <$in>; }

my (%exists, %named);
for my $file (glob 'tests/*/*_test.cpp') {
    my ($suite) = $file =~ m{(\w+)\.cpp$};
    my $text = slurp($file);
    while ($text =~ /^(?:AIO_TEST|AIO_REAL_TEST|PLAIN_TEST)\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\)/mg) {
        my $name = join '', $1 =~ /"((?:[^"\\]|\\.)*)"/g;
        $name =~ s/\\(.)/$1/g;
        $exists{"$suite: $name"} = 1;
        # matches "rule 4" and "rules 9, 10", but not "decision (b)", which is a decision of aiocxx
        while ($name =~ /\brules? (\d+\b(?:(?:, | and )\d+\b)*)/g) { $named{$_} = 1 for $1 =~ /\d+/g; }
    }
}

my $faults = 0;
sub report { print "$page: @_\n"; $faults++; }

my (%rows, %used);
my $text = slurp($page);
for my $line (split /\n/, $text) {
    next unless $line =~ /^\| (\d+) \|/;
    my $rule = $1;
    report("two rows for rule $rule") if $rows{$rule}++;
    my (undef, undef, $holds, $what, $tests) = split /\s*\|\s*/, $line;
    report("rule $rule: '$holds' is none of the ways in which a rule holds")
        unless $holds =~ /^(as in Python|our form|decided otherwise \(\w+\)|no C\+\+ form|not yet)$/;
    report("rule $rule: no test") unless $tests =~ /`\w+_test`: `/;
}
for my $rule (1 .. $last) { report("rule $rule is missing") unless $rows{$rule}; }
for my $rule (sort { $a <=> $b } keys %rows) { report("there is no rule $rule") if $rule < 1 || $rule > $last; }
for my $names_tests ($page, 'docs/internals/cancellation.md', 'docs/guide/machines.md') {
    my $all = slurp($names_tests);
    while ($all =~ /`(\w+_test)`: `([^`]+)`/g) {
        next if $exists{"$1: $2"};
        print "$names_tests: there is no test $1: $2\n";
        $faults++;
    }
}

my @unnamed = grep { !$named{$_} } 1 .. $last;
printf "%d of %d rules are named by tests%s\n", $last - @unnamed, $last, @unnamed ? "; not by any: @unnamed" : "";

my @found = ((map { "C$_" } 1 .. 27), (map { "N$_" } 1 .. 24), (map { "P$_" } 1 .. 10, 13 .. 16));
my %mended;
for my $file (glob 'tests/*/*_test.cpp tests/messages/* tests/consumer/* tests/header_examples/*') {
    next unless -f $file;
    my $all = slurp($file);
    while ($all =~ /\bfaults? ((?:[CNP]\d+(?:, | and )?)+)/g) { $mended{$_} = 1 for $1 =~ /[CNP]\d+/g; }
}
my @unmended = grep { !$mended{$_} } @found;
printf "%d of %d faults are named by tests%s\n", @found - @unmended, scalar @found, @unmended ? "; not by any: @unmended" : "";
exit($faults || @unnamed || @unmended ? 1 : 0);
