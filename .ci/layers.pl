#!/usr/bin/perl
# Usage: .ci/layers.pl: checks that the includes of include/ and src/ keep the layers of docs/internals/design.md. A file may include files
# of its own layer and of the layers to its left. Layers with a dot between them stand side by side, and do not know each other. A header
# of src/ is private to its folder and the folders in it, but for those that %for_other_folders names, with the reason.
use strict;
use warnings;

open(my $design, '<', 'docs/internals/design.md') or die "docs/internals/design.md: $!\n";
my ($order) = join('', <$design>) =~ /^    (base > .*)$/m or die "docs/internals/design.md does not name the layers: base > ...\n";
my @order = map { [split / \. /] } split / > /, "$order > all";

# Public headers stand in one folder. This table has the layer of each.
my %public = (
    base => 'delay errors exception_group result',
    task => 'async_generator context_var coro event_loop finally future sleep task with',
    sync => 'barrier broadcast condition event lock queue semaphore shared_lock watch',
    group => 'as_completed background_tasks gather interval race task_group timeout views wait',
    threads => 'executor shared_queue thread_future workers',
    io => 'address datagrams descriptor file follow_lines inherited_sockets lowlevel server signals standard_streams stream subprocess temporary tls walk watch_files',
    debug => 'async_trace call_graph',
    run => 'run',
    testing => 'testing',
    http => 'http http_json',
    sql => 'sql sql_json',
    jetstream => 'jetstream jetstream_json',
    all => 'aio',
);

my %for_other_folders = (
    'base/names.hpp' => 'names of types and of functions, without the inline namespace',
    'http/app/date.hpp' => 'dates of HTTP, which the client reads, too',
    'http/client/multi.hpp' => 'a WebSocket goes by the settings of its session',
    'http/client/url.hpp' => 'a WebSocket checks its URL as a request does',
    'http/websocket/handshake.hpp' => 'the test client shakes hands in memory',
    'http/websocket/state.hpp' => 'the test client makes a WebSocket of a stream in memory',
    'io/signal_table.hpp' => 'the handler is one, for signals() and for run()',
    'loop/backend/backend.hpp' => 'the interface that each backend implements and the loop calls',
    'loop/backend/io_uring.hpp' => 'the ring, for the transport that works with requests in it',
    'loop/loop_state.hpp' => 'what each layer keeps with the loop, or asks it',
    'loop/process_threads.hpp' => 'pools count their idle threads there, so that a deadlock shows',
    'loop/running_loops.hpp' => 'run() enters a loop among those that run, and fork() forgets them',
    'loop/scheduler.hpp' => 'the stepper is a scheduler that knows tasks',
    'loop/spin.hpp' => 'threads that wait for each other pause the processor in the same way',
    'task/ending.hpp' => 'what the end of run() asks of the tasks',
    'task/frames.hpp' => 'what users are shown of a coroutine, in the reports of all layers',
    'task/running.hpp' => 'the loop of this thread, which run() sets; its tasks by their numbers',
    'task/stepper.hpp' => 'run() makes one',
);

my %rank;
for my $at (0 .. $#order) { $rank{$_} = $at for @{$order[$at]}; }
my %layer_of;
for my $layer (keys %public) { $layer_of{"aio/$_.hpp"} = $layer for split ' ', $public{$layer}; }

sub layer_of { # the layer of a path below include/ or src/
    my ($path) = @_;
    return $layer_of{$path} if $layer_of{$path};
    return $1 if $path =~ m{^aio/detail/(\w+)/[\w.]+$} && exists $rank{$1};
    return $1 if $path =~ m{^aio/(http|sql|jetstream)/[\w.]+$};
    return $1 if $path =~ m{^(\w+)/} && $1 ne 'aio' && exists $rank{$1};
    return undef;
}

my ($faults, $files, $includes) = (0, 0, 0);
my %included_elsewhere;
for my $file (split /\n/, `find include src -name '*.[hc]pp' | sort`) {
    (my $path = $file) =~ s{^(include|src)/}{};
    my $layer = layer_of($path);
    if (!defined $layer) {
        print "$file: belongs to no layer: put it into a layer's folder, or a public header into the table of .ci/layers.pl\n";
        $faults++;
        next;
    }
    $files++;
    open(my $in, '<', $file) or die "$file: $!\n";
    while (my $line = <$in>) {
        next unless $line =~ m{^\s*#\s*include\s*(?:<(aio/[^>]+)>|"([^"]+)")};
        my $named = $1 // $2;
        my $private = !defined $1;
        next if $named eq 'aio/detail/see_the_error_above';    # no such file: the include stops the compiler
        $includes++;
        my $to = layer_of($named);
        if (!defined $to) {
            print "$file:$.: $named belongs to no layer\n";
            $faults++;
        } elsif ($to ne $layer && $rank{$to} >= $rank{$layer}) {
            print "$file:$.: $layer must not include $named, which is of $to\n";
            $faults++;
        } elsif ($private && index($path, $named =~ s{[^/]+$}{}r) != 0) {
            $included_elsewhere{$named} = 1;
            next if $for_other_folders{$named};
            print "$file:$.: $named is private to its folder: move what is needed, or name the header in .ci/layers.pl\n";
            $faults++;
        }
    }
}
for my $header (grep { !$included_elsewhere{$_} } sort keys %for_other_folders) {
    print "$header: no other folder includes it: take it out of .ci/layers.pl\n";
    $faults++;
}
printf "%d files in %d layers: %d includes, %d faults\n", $files, scalar keys %rank, $includes, $faults;
exit($faults ? 1 : 0);
