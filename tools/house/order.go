package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// edge says that one file uses another, by their numbers.
type edge struct{ from, to int }

// graph is the uses between n files.
type graph struct {
	n     int
	names map[edge][]string // what is used, sorted
}

// back returns the uses that run from a later file of the order to an earlier
// one, sorted, and the number of all uses.
func (g graph) back(order []int) (back []edge, all int) {
	at := make([]int, g.n)
	for i, n := range order {
		at[n] = i
	}
	for e := range g.names {
		if at[e.from] > at[e.to] {
			back = append(back, e)
		}
	}
	slices.SortFunc(back, func(a, b edge) int {
		return cmp.Or(cmp.Compare(at[a.from], at[b.from]), cmp.Compare(at[a.to], at[b.to]))
	})
	return back, len(g.names)
}

// starts is how many orders the search begins with. The result is the best of
// the ends; on graphs of the size of a package most starts end there.
const starts = 60

// bestOrder returns the files in the order in which the fewest uses run back
// up: a minimum feedback arc set, found by moving one file at a time to its
// best place until no move helps.
func bestOrder(g graph) []int {
	uses := make([][]bool, g.n)
	for i := range uses {
		uses[i] = make([]bool, g.n)
	}
	for e := range g.names {
		uses[e.from][e.to] = true
	}
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same on every run
	var best []int
	least := -1
	for range starts {
		order := random.Perm(g.n)
		if best == nil {
			order = bySurplus(uses)
		}
		improve(uses, order)
		if n := countBack(uses, order); least < 0 || n < least {
			best, least = order, n
		}
	}
	return best
}

// bySurplus puts first what uses most others and is used least.
func bySurplus(uses [][]bool) []int {
	surplus := make([]int, len(uses))
	order := make([]int, len(uses))
	for i := range uses {
		order[i] = i
		for j := range uses {
			if uses[i][j] {
				surplus[i]++
				surplus[j]--
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return surplus[b] - surplus[a] })
	return order
}

// improve moves files until no single move makes fewer uses run back up.
func improve(uses [][]bool, order []int) {
	for moved := true; moved; {
		moved = false
		for i := range order {
			if to := bestPlace(uses, order, i); to != i {
				f := order[i]
				order = slices.Insert(slices.Delete(order, i, i+1), to, f)
				moved = true
			}
		}
	}
}

// bestPlace returns the place to which the file at i moves with the largest
// gain; i when none gains.
func bestPlace(uses [][]bool, order []int, i int) int {
	place, most := i, 0
	for _, step := range []int{-1, 1} {
		gain := 0
		for j := i + step; j >= 0 && j < len(order); j += step {
			above, below := order[j], order[i] // as they stand when step is -1
			if step > 0 {
				above, below = below, above
			}
			// Changing places turns both uses round.
			gain += one(uses[below][above]) - one(uses[above][below])
			if gain > most {
				place, most = j, gain
			}
		}
	}
	return place
}

func countBack(uses [][]bool, order []int) int {
	n := 0
	for i, above := range order {
		for _, below := range order[i+1:] {
			n += one(uses[below][above])
		}
	}
	return n
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
