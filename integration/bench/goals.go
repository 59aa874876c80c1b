package bench

import (
	"fmt"
	"strconv"
)

// goal bounds a figure: its ratio to the peer, or its own value where there is
// no peer to divide by.
type goal struct {
	limit    float64
	absolute bool // of the value, in the figure's unit; else of the ratio
	atLeast  bool // more is better
}

// String returns the bound as shown: "<= 1.2", "<= 40 MB".
func (g goal) text(unit string) string {
	op := "<="
	if g.atLeast {
		op = ">="
	}
	out := op + " " + strconv.FormatFloat(g.limit, 'g', -1, 64)
	if g.absolute {
		out = fmt.Sprintf("%s %s", out, unit)
	}
	return out
}

func (g goal) met(x float64) bool {
	if g.atLeast {
		return x >= g.limit
	}
	return x <= g.limit
}

// goals is what each figure is held to, see docs/performance.md. A figure
// without an entry is reported for information.
var goals = map[string]goal{
	"fib.writer_100k":      {limit: 1.2},
	"fib.nodes5000":        {limit: 0.1},
	"fib.load_packed_100k": {limit: 1.0},
	"fib.load_calico_100k": {limit: 0.5},
	"fib.withdraw_100k":    {limit: 1.0},
	"fib.single_p50":       {limit: 1.5},
	"fib.resync_100k":      {limit: 0.25},
	"fib.churn_60s":        {limit: 0, absolute: true},
	"agent.rss_100k":       {limit: 8},
	"agent.idle_rss":       {limit: 40, absolute: true},
	"agent.idle_cpu":       {limit: 0.5, absolute: true},

	"bgp.reflect_burst_500":  {limit: 1.0},
	"bgp.reflect_burst_1000": {limit: 1.0},
	"bgp.reflect_rss_1000":   {limit: 200, absolute: true},
	"bgp.cold_start_1000":    {limit: 1.0},

	"cni.add_c1":   {limit: 0.40},
	"cni.add_c8":   {limit: 0.40},
	"cni.add_c32":  {limit: 0.33},
	"cni.del_c1":   {limit: 0.25},
	"cni.del_c32":  {limit: 0.40},
	"cni.shim":     {limit: 1.5},
	"cni.shim_rss": {limit: 2.5, absolute: true},
	"cni.wire":     {limit: 1.25},

	"ipam.assign_c32":   {limit: 15, atLeast: true},
	"ipam.assign_fsync": {limit: 4, atLeast: true},
	"ipam.commit_c1":    {limit: 1.5},
	"ipam.start_65536":  {limit: 200, absolute: true},
}
