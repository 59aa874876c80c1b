package strictyaml

import (
	"fmt"
	"strings"
)

// Suggest names the most similar known word, else all known words, as the
// second half of a mistake's text.
func Suggest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		typed, right := strings.ToLower(word), strings.ToLower(k)
		d := editDistance(typed, right)
		if len(typed) > 2 && strings.HasPrefix(right, typed) {
			d = 1 // cut short
		}
		if d < distance && 2*d <= len(k) {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "use one of " + strings.Join(known, ", ")
}

// editDistance returns the number of inserted, removed and changed bytes
// between a and b (Levenshtein), counted no further than long words need.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
