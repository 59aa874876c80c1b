package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// queuesFile lists the queues that programs of this network namespace have bound,
// one a line, the number first. It is there with the kernel's nfnetlink_queue.
const queuesFile = "/proc/net/netfilter/nfnetlink_queue"

// queueCommand makes the command by which kubelet learns whether NetworkPolicies are
// enforced on this node.
func queueCommand() *cobra.Command {
	return &cobra.Command{
		Use: "queue NUMBER", Short: "succeed when a program of this network namespace has bound the NFQUEUE",
		Long: `queue succeeds when a program of this network namespace receives the packets of
the NFQUEUE. It is the readiness probe of what enforces NetworkPolicies, which runs on
and enforces nothing where the kernel lacks nft_queue or nfnetlink_queue.`,
		Example: "  onlink-kube queue 98",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			number, err := strconv.ParseUint(args[0], 10, 16)
			if err != nil {
				return fmt.Errorf("NUMBER %q: give the number of a queue, 0 to 65535", args[0])
			}
			f, err := os.Open(queuesFile)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("the kernel has no %s: load nfnetlink_queue and nft_queue", queuesFile)
			}
			if err != nil {
				return err
			}
			defer f.Close()
			return bound(f, number)
		},
	}
}

// bound returns an error when the list of bound queues lacks one.
func bound(list io.Reader, number uint64) error {
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 && fields[0] == strconv.FormatUint(number, 10) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", queuesFile, err)
	}
	return fmt.Errorf("no program has bound queue %d", number)
}
