// Command bed is what the Makefile calls to install, test, fuzz and compare;
// see package onlink/integration/bed.
//
//	bed deps NEED...               install the missing Debian packages: lab, frr, interop, bench, uml, etcd, runtime, kube, race, qemu
//	bed test [PACKAGE...]          run the tests in all beds
//	bed uml [-out DIR] COMMAND...  run a command (default: a shell) in user-mode Linux
//	bed uml-test -run PATTERN PACKAGE [ARGUMENT...]  run tests of one package there, with arguments
//	bed kernel [-run PATTERN]      run tests on Debian's stock kernel in QEMU
//	bed fuzz [-time 30s]           run every fuzz target
//	bed bench-compare -ref COMMIT  compare benchmarks
//	bed former [-ref COMMIT]       build the programs of another commit, and print their folder
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"onlink/integration/bed"
	"onlink/integration/uml"
)

const usage = "usage: bed deps|test|uml|uml-test|kernel|fuzz|bench-compare|former [flags] [arguments]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bed:", err)
		code = 1
	}
	os.Exit(code)
}

func command(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 1, errors.New(usage)
	}
	flags := flag.NewFlagSet("bed "+args[0], flag.ExitOnError)
	switch args[0] {
	case "deps":
		return 0, deps(ctx, args[1:])
	case "test":
		opts := bed.TestOptions{Out: os.Stdout}
		flags.DurationVar(&opts.Timeout, "timeout", 25*time.Minute, "limit of one test binary")
		flags.BoolVar(&opts.NoRace, "norace", false, "leave out the race detector")
		_ = flags.Parse(args[1:]) // ExitOnError
		opts.Patterns = flags.Args()
		return 0, bed.Test(ctx, opts)
	case "run-plan": // inside user-mode Linux, by bed test
		if len(args) != 2 {
			return 1, errors.New("run-plan is for bed test to call")
		}
		return 0, bed.RunPlan(args[1], os.Stdout)
	case "uml":
		return runUML(ctx, flags, args[1:])
	case "uml-test":
		return 0, testInUML(ctx, flags, args[1:])
	case "kernel":
		opts := bed.KernelOptions{Out: os.Stdout, Packages: bed.KernelPackages}
		flags.StringVar(&opts.Run, "run", ".", "tests to run, as go test takes it")
		flags.StringVar(&opts.Accel, "accel", bed.Interpreted, "QEMU's accelerator; kvm is fast, and may hang in a nested machine")
		_ = flags.Parse(args[1:]) // ExitOnError
		return 0, bed.Kernel(ctx, opts)
	case "fuzz":
		length := flags.Duration("time", 30*time.Second, "length of one target")
		_ = flags.Parse(args[1:]) // ExitOnError
		return 0, bed.Fuzz(ctx, os.Stdout, *length)
	case "bench-compare":
		opts := bed.BenchOptions{Out: os.Stdout}
		flags.StringVar(&opts.Ref, "ref", "", "commit to compare with")
		flags.StringVar(&opts.Pattern, "bench", ".", "benchmarks to run")
		flags.StringVar(&opts.Time, "benchtime", "1s", "length of one benchmark")
		flags.IntVar(&opts.Count, "count", 6, "runs of each")
		_ = flags.Parse(args[1:]) // ExitOnError
		return 0, bed.CompareBench(ctx, opts)
	case "former":
		ref := flags.String("ref", "", "commit to build; default the last version")
		_ = flags.Parse(args[1:]) // ExitOnError
		bin, err := bed.Former(ctx, os.Stderr, *ref)
		if err == nil {
			fmt.Println(bin)
		}
		return 0, err
	}
	return 1, fmt.Errorf("unknown command %q; %s", args[0], usage)
}

func deps(ctx context.Context, names []string) error {
	var needs []bed.Need
	for _, name := range names {
		switch need := bed.Need(name); need {
		case bed.NeedLab, bed.NeedFRR, bed.NeedInterop, bed.NeedBench, bed.NeedUML, bed.NeedEtcd, bed.NeedRuntime, bed.NeedKube, bed.NeedRace, bed.NeedQEMU, bed.NeedPrometheus, bed.NeedBrowser, bed.NeedCollector:
			needs = append(needs, need)
		default:
			return fmt.Errorf("deps: unknown need %q; use lab, frr, interop, bench, uml, etcd, runtime, kube, race, qemu, prometheus, browser or collector", name)
		}
	}
	return bed.Install(ctx, os.Stdout, needs...)
}

func testInUML(ctx context.Context, flags *flag.FlagSet, args []string) error {
	test := bed.UMLTest{Out: os.Stdout}
	flags.StringVar(&test.Run, "run", ".", "tests to run, as go test takes it")
	flags.DurationVar(&test.Timeout, "timeout", 25*time.Minute, "limit of the tests")
	_ = flags.Parse(args) // ExitOnError
	if flags.NArg() == 0 {
		return errors.New("uml-test: name a package, such as ./integration")
	}
	test.Package, test.Args = flags.Arg(0), flags.Args()[1:]
	return bed.TestInUML(ctx, test)
}

func runUML(ctx context.Context, flags *flag.FlagSet, args []string) (int, error) {
	opts := uml.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	flags.StringVar(&opts.Out, "out", "", "folder seen as /out; default a temporary one")
	flags.StringVar(&opts.Memory, "mem", "", "memory, default 2G")
	flags.DurationVar(&opts.Timeout, "timeout", 24*time.Hour, "limit of the boot")
	_ = flags.Parse(args) // ExitOnError
	argv := flags.Args()
	if len(argv) == 0 {
		argv, opts.Interactive = []string{"bash"}, true
		opts.Env = []string{"TERM=" + os.Getenv("TERM")}
	}
	return uml.Run(ctx, opts, argv)
}
