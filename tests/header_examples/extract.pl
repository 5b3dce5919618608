#!/usr/bin/env perl
# Usage: extract.pl HEADER...: prints a C++ file of the examples in the headers' opening comments, which includes context.hpp.
# Names each header without an example, and fails then.
# Functions stand at namespace scope; statements, which may await, are put into a coroutine. `...` is left out.
use strict;
use warnings;

print "#include \"context.hpp\"\n";
my $number = 0;
my $without = 0;
for my $header (@ARGV) {
    open(my $in, '<', $header) or die "$header: $!\n";
    my (@functions, @statements, @blocks, $function);
    my $line_number = 0;
    my $blank = 1;
    while (my $line = <$in>) {
        ++$line_number;
        next if $line_number == 1;    # #pragma once
        last if $line !~ m{^//};
        if ($line !~ m{^//     (.*)$}) {
            $blank = 1 if $line =~ m{^//\s*\S};    # prose between two examples
            next;
        }
        my $code = $1;
        next if $code =~ /^#include/;
        $code =~ s{(^|\s)//.*$}{};
        $code =~ s{^\s*\.\.\.\s*$}{};
        $code =~ s{\{ \.\.\. \}}{\{ \}}g;
        my $place = "#line $line_number \"$header\"\n";
        if (defined $function) {
            $functions[-1] .= "$place$code\n";
            undef $function if $code =~ /^}\s*$/;
        } elsif ($code =~ /^(?:aio::(?:coro|async_generator|context)<.*>|int|void|struct|template<.*>) [^=]*\)\s*\{\s*(?:.*\}\s*)?$/) {
            $function = 1 if $code !~ /\}\s*$/;    # a function on one line ends there
            push @functions, "$place$code\n";
        } else {
            push @statements, "" if $blank || !@statements;
            $blank = 0;
            $statements[-1] .= "$place$code\n";
        }
    }
    if (!@functions && !@statements) {
        print STDERR "$header: its opening comment has no example\n";
        $without = 1;
        next;
    }
    ++$number;
    (my $include = $header) =~ s{.*include/}{};
    my $functions = join "", @functions;
    $functions =~ s/\bint main\(/int example_main(/g;
    print "\n#include <$include>\nnamespace example_$number {\nusing namespace context;\n$functions";
    for my $i (0 .. $#statements) {
        print "aio::coro<> statements_$i(CONTEXT_NAMES) {\n{\n$statements[$i]}\nco_return;\n}\n";
    }
    print "}  // namespace\n";
}
exit $without;
