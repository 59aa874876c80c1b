package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	quietProbe = 300 * time.Millisecond // in which the benchmark itself does nothing
	quietTries = 10
	// quietShare is the share of all cores, in percent, that others may use on a quiet
	// machine: the kernel takes namespaces apart, a shell waits.
	quietShare = 3.0
)

// clock is the processor time of the whole machine so far, in ticks of all cores
// (proc_stat(5)).
type clock struct{ all, used, stolen uint64 }

func readClock() (clock, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return clock{}, fmt.Errorf("read processor time: %w", err)
	}
	return parseClock(string(text))
}

// parseClock reads the first line of /proc/stat.
func parseClock(text string) (clock, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return clock{}, errors.New("read processor time: /proc/stat does not begin with the time of all cores")
	}
	var c clock
	for i, field := range fields[1:9] { // what guests use is in user and nice already
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return clock{}, fmt.Errorf("read processor time: %w", err)
		}
		c.all += n
		switch i {
		case 3, 4: // idle, and idle while a disk works
		case 7:
			c.stolen += n
		default:
			c.used += n
		}
	}
	return c, nil
}

// since returns the shares, in percent of all cores, that were used and stolen (by
// the host of a virtual machine) since an earlier time.
func (c clock) since(o clock) (used, stolen float64) {
	all := float64(c.all - o.all)
	if all == 0 {
		return 0, 0
	}
	return 100 * float64(c.used-o.used) / all, 100 * float64(c.stolen-o.stolen) / all
}

// quiet waits a few seconds for the machine to become quiet, and returns the share of
// its cores that others use.
func quiet(ctx context.Context) (share float64, err error) {
	for range quietTries {
		before, err := readClock()
		if err != nil {
			return 0, err
		}
		if err := pause(ctx, quietProbe); err != nil {
			return 0, err
		}
		after, err := readClock()
		if err != nil {
			return 0, err
		}
		used, stolen := after.since(before)
		if share = used + stolen; share <= quietShare {
			return share, nil
		}
	}
	return share, nil
}
