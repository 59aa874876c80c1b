package pods

import (
	"errors"

	"onlink/cni/pod"
	"onlink/ipam"
)

// Fsck checks the database of an agent that does not run: the file, its
// records, and that they agree with the pods' interfaces in the kernel. With
// repair it repairs faults with one right answer and returns the steps. Problems
// are one line each; none means that all is well. A file that cannot be read at
// all is the error.
func Fsck(database string, table uint32, repair bool) (problems, repaired []string, err error) {
	s, err := ipam.OpenStore(database, ipam.StoreOptions{ReadOnly: !repair})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if repair {
		if repaired, err = s.Repair(); err != nil {
			return nil, nil, err
		}
	}
	if problems, err = s.Check(); err != nil {
		return nil, repaired, err
	}
	assignments, err := s.Assignments()
	if err != nil {
		return problems, repaired, err
	}
	wired, err := pod.ListWired()
	if err != nil {
		return problems, repaired, err
	}
	more, err := kernelProblems(assignments, assignments, wired, table)
	return append(problems, more...), repaired, err
}
