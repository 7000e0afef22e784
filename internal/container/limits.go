package container

import specs "github.com/opencontainers/runtime-spec/specs-go"

// Limits checks limits as those of a container are checked and gives them in the runtime's words, nil when there are none:
// for processes that are no container's. userns: this process is root of a user namespace only.
func Limits(r Resources, userns bool) (*specs.LinuxResources, error) {
	s := &Store{opt: Options{Userns: userns}}
	r, err := s.complete(r)
	if err != nil {
		return nil, err
	}
	return s.limits(r)
}
