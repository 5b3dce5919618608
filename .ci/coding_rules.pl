#!/usr/bin/env perl
# Usage: aiocxx-check FILE...
# Looks in C++ sources for what g++ 12 breaks in coroutines without a warning, as far as the text alone shows it:
#   R1  a lambda that captures by value, or a temporary that is made with braces, inside a co_await or co_yield expression: g++ 12 destroys
#       what it holds twice (a temporary that is trivially destructible, or has a constructor, is fine, but the text does not show that)
#   R2  co_await beside && || ?: or in a switch, a temporary in a ?: inside a co_await expression, `if (co_await ...)` and
#       `while (co_await ...)` without braces
#   R14 co_await inside the braces of an initialiser, also of a named object: g++ 12 destroys the members of an aggregate or the elements of
#       an array twice (a class with a constructor is fine, but the text does not show that; std::array alone of std is taken for none)
# docs/internals/compilers.md has a row for each, and names what the check reports although it is fine.
# Prints FILE:LINE: what, and exits with 1 if there was anything.
# --own is for the sources of aiocxx itself. It leaves temporaries to the reader. It also checks that no line has more than 120 columns, that
# no header of include/aio/detail has more than 350 lines, and that headers of include/aio include no header of a dependency or of the
# platform, and no slow standard header, and that what the library defines is in its inline namespace.
use strict;
use warnings;

my $own = @ARGV && $ARGV[0] eq '--own' && shift @ARGV;
if (!@ARGV || $ARGV[0] =~ /^-/) {
    print STDERR "Usage: aiocxx-check FILE...\nIt looks for what g++ 12 breaks in coroutines (the page \"Compilers\" of its documentation, internals/compilers).\n";
    exit 2;
}
my $faults = 0;

sub report {
    my ($file, $text, $at, $what) = @_;
    my $line = 1 + (substr($text, 0, $at) =~ tr/\n//);
    print "$file:$line: $what\n";
    $faults++;
}

# Gives the text with comments and literals replaced by spaces, so that everything else stands in the same place.
sub bare {
    my ($text) = @_;
    my $blank = sub {
        my $s = shift;
        my $quote = $s =~ /^"/ ? '"' : ' ';    # a string stays a string
        $s =~ s/[^\n]/ /g;
        $s =~ s/^ (.*) $/$quote$1$quote/s;
        return $s;
    };
    $text =~ s{ ( //[^\n]* | /\*.*?\*/ | R"(\w*)\(.*?\)\2" | "(?:[^"\\\n]|\\.)*" | (?<!\w)'(?:[^'\\\n]|\\.)+' ) }
              { $blank->($1) }gesx;
    return $text;
}

my $round = qr/(\((?:[^()]++|(?-1))*+\))/;    # balanced
my $angle = qr/(<(?:[^<>(){};]++|(?-1))*+>)/;
my $curly = qr/(\{(?:[^{}]++|(?-1))*+\})/;

# Reads one co_await expression from where it starts to its end. It skips the bodies of lambdas: a co_await in them is an
# expression of its own.
sub check_expression {
    my ($file, $text, $start) = @_;
    pos($text) = $start;
    my ($depth, $before) = (0, "(");
    while ($text =~ /\G\s*(\[\[.*?\]\]|\w+|&&|\|\||->|::|.)/gcs) {
        my ($token, $at) = ($1, $-[1]);
        if ($token eq '[' && $before !~ /^(\w+|\]|\))$/ || $token eq '[' && $before =~ /^(return|co_return)$/) {
            $text =~ /\G([^\]]*)\]/gc or return;
            my $captures = $1;
            for my $capture (split /,(?![^(]*\))/, $captures) {
                $capture =~ s/^\s+|\s+$//g;
                next if $capture =~ /^(&.*|this|)$/s;
                report($file, $text, $at, "R1: a lambda that captures '$capture' by value in a co_await expression; "
                    . "make it a named local and move that in");
            }
            # <parameters> (parameters) specifiers -> type { body }
            $text =~ /\G\s*<[^()]*?>/gc;
            $text =~ /\G\s*$round/gc;
            $text =~ /\G(?:$angle|[^{};,)<])*/gc;
            $text =~ /\G\s*$curly/gc;
            $before = '}';
            next;
        }
        if (!$own && $token eq '{' && $before =~ /^(\w+|>|\(|,)$/ && $text !~ /\G\s*[.}]/) {
            report($file, $text, $at, "R1: a temporary made with braces in a co_await expression; if it has no constructor and is not "
                . "trivially destructible, make it a named local and move that in");
        }
        if (!$own && $token eq '?' && $depth > 0 && $text =~ /\G[^;]*?\w\s*[({]/) {
            report($file, $text, $at, "R2: ?: with a temporary in a co_await expression; make it a named local");
        }
        $depth++ if $token =~ /^[(\[{]$/;
        if ($token =~ /^[)\]}]$/) { return if --$depth < 0; }
        return if $depth == 0 && $token =~ /^[;,]$/;
        next if $token eq '&&' && $text =~ /\G\s*[>,)]/; # T&&
        if ($depth == 0 && $token =~ /^(&&|\|\||\?)$/) {
            report($file, $text, $at, "R2: co_await beside $token; await into a named local first");
        }
        $before = $token;
    }
}

# Reports co_await inside an initialiser's braces. The braces of an initialiser hold expressions, and those of a block statements.
sub check_initialisers {
    my ($file, $text) = @_;
    my @open;    # of each brace that is open: where it stands, and where its first co_await does, outside of inner braces
    while ($text =~ /[{}]|\bco_await\b/g) {
        my ($token, $at) = ($&, $-[0]);
        if ($token eq '{') { push @open, [$at, -1]; next; }
        if ($token eq 'co_await') { $open[-1][1] = $at if @open && $open[-1][1] < 0; next; }
        my $brace = pop @open or next;
        my ($from, $awaits) = @$brace;
        next if $awaits < 0;
        my $inside = substr($text, $from + 1, $at - $from - 1);
        1 while $inside =~ s/\{[^{}]*\}/ /;
        1 while $inside =~ s/\([^()]*\)/ /;    # also the ; of a for
        next if $inside =~ /;/ || $inside =~ /^\s*(?:if|for|while|do|switch|try|case|default|[A-Z][A-Z0-9_]+)\b/;
        my $before = substr($text, $from > 200 ? $from - 200 : 0, $from > 200 ? 200 : $from);
        next if $before =~ /\bstd::(?!array\b)\w+\s*(<[^;{}()]*>)?[\s&]*\w*\s*$/;
        next if $before =~ /\b(?:auto|bool|char|short|int|long|unsigned|float|double)[\s&]*\w*\s*$/;
        report($file, $text, $awaits, "R14: co_await inside an initialiser's braces; await into a named local first");
    }
}

my %slow = map { $_ => 1 } qw(iostream regex ranges functional);
my $foreign = qr{^(curl|boost|nlohmann|openssl|gtest|benchmark|sys|linux|netinet|arpa)/
                |^(libpq-fe|sqlite3|zlib|liburing|unistd|pthread|netdb|fcntl|poll|signal)\.h$}x;

for my $file (@ARGV) {
    open(my $in, '<', $file) or do { print STDERR "aiocxx-check: $file: $!\n"; exit 2 };
    my $original = do { local $/; <$in> };
    my $text = bare($original);

    while ($text =~ /(?<!operator )\bco_(?:await|yield)\b/g) { check_expression($file, $text, $+[0]); }
    while ($text =~ /(&&|\|\||\?)\s*[!(]*\s*co_await\b/g) {
        report($file, $text, $-[0], "R2: co_await beside $1; await into a named local first");
    }
    check_initialisers($file, $text);
    while ($text =~ /\b(if|while|switch)\s*(?:constexpr\s*)?$round/g) {
        my ($word, $condition, $at, $end) = ($1, $2, $-[0], $+[0]);
        $condition =~ s/$curly//g;
        next unless $condition =~ /\bco_await\b/;
        report($file, $text, $at, "R2: co_await in a switch; await into a named local first") if $word eq 'switch';
        next if substr($text, $end) =~ /^\s*\{/;
        next if $word eq 'while' && substr($text, $end) =~ /^\s*;/;    # do { ... } while (...);
        report($file, $text, $at, "R2: $word (co_await ...) without braces");
    }

    next unless $own;
    my $formatted = $original;
    $formatted =~ s{^\s*// clang-format off.*?^\s*// clang-format on}{"\n" x ($& =~ tr/\n//)}gmse;
    report($file, $formatted, $-[0], "a line of more than 120 columns") while $formatted =~ /^[^\n]{121}/mg;
    if ($file =~ m{(^|/)(?:include|src)/}) {
        report($file, $original, $-[0], "namespace aio is opened without its inline namespace: aio::inline v0")
            while $original =~ /^namespace aio(?!::inline v0\b)/mg;
    }
    next unless $file =~ m{(^|/)include/};
    my $lines = $original =~ tr/\n//;
    report($file, $original, 0, "a header of $lines lines: at most 350") if $file =~ m{/detail/} && $lines > 350;
    if ($file !~ m{/detail/} && $original !~ m{^[^#]*#pragma once[^#]*(?:\n//[^\n]*)*\s*#include <aio/detail/base/platform\.hpp>}) {
        report($file, $original, 0, "a public header includes <aio/detail/base/platform.hpp> first");
    }
    while ($original =~ /^\s*#\s*include\s*[<"]([^>"]+)[>"]/mg) {
        my ($header, $at) = ($1, $-[1]);
        report($file, $original, $at, "<$header> is too slow to compile for a public header") if $slow{$header};
        next if $file =~ m{/(?:http|sql|jetstream)_json\.hpp$} && $header =~ m{^nlohmann/};
        report($file, $original, $at, "<$header> shows in a public header") if $header =~ $foreign;
    }
}
exit($faults ? 1 : 0);
