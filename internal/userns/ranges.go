package userns

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// GrantLine is the command that gives the user a range of ids, with what is to be done after it.
func GrantLine() string {
	uid := os.Geteuid()
	if Active() {
		uid = int(Idmap().UIDs[0].Outside)
	}
	name := os.Getenv("USER")
	if name == "" || name == "root" {
		name = fmt.Sprintf("$(id -un %d)", uid)
	}
	return fmt.Sprintf("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s   (then end %s, or log in again)", name, PauseName)
}

// Granted reads the ranges that subuid and subgid (files of the format of subuid(5)) grant to the user, by name or by
// number. A missing file grants nothing.
func Granted(uid int, subuid, subgid string) (uids, gids []Range) {
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	return rangesOf(subuid, names), rangesOf(subgid, names)
}

// GrantedTo is [Granted] for a user by name alone, who need not exist.
func GrantedTo(name, subuid, subgid string) (uids, gids []Range) {
	return rangesOf(subuid, []string{name}), rangesOf(subgid, []string{name})
}

func rangesOf(path string, names []string) []Range {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseSubIDs(io.LimitReader(f, 4<<20), names)
}

// parseSubIDs reads "name:first:count" lines and gives those of the names; Inside runs on from 1, below which is the
// user's own id. Lines that say nothing sensible are passed over, as newuidmap does.
func parseSubIDs(r io.Reader, names []string) []Range {
	var ranges []Range
	inside := uint64(1)
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) != 3 || (f[0] != names[0] && f[0] != names[len(names)-1]) {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || first+count > math.MaxUint32 || inside+count > math.MaxUint32 {
			continue
		}
		ranges = append(ranges, Range{uint32(inside), uint32(first), uint32(count)})
		inside += count
	}
	return ranges
}
