package layer

import (
	"testing"

	"pgregory.net/rapid"
)

// What is written outside and read back is what it was inside: owners, capabilities, access control lists.
func TestShift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Shift{UID: rapid.Uint32Range(1, 1<<31).Draw(t, "uid"), GID: rapid.Uint32Range(1, 1<<31).Draw(t, "gid"), Count: rapid.Uint32Range(1, 65536).Draw(t, "count")}
		id := rapid.IntRange(0, int(s.Count)-1).Draw(t, "id")
		uid, gid, err := s.outside(id, id)
		if u, g := s.inside(uid, gid); err != nil || u != id || g != id || uid != int(s.UID)+id || gid != int(s.GID)+id {
			t.Fatalf("%d is %d:%d outside, %d:%d inside, %v", id, uid, gid, u, g, err)
		}
		if u, _ := s.inside(int(s.UID)-1, 0); u != nobody {
			t.Fatalf("an id that the namespace does not have is %d", u)
		}
		if _, _, err := s.outside(int(s.Count), 0); err == nil {
			t.Fatal("an id that the namespace does not have was taken")
		}
	})
}

func TestShiftXattrs(t *testing.T) {
	s := Shift{UID: 0x10000, GID: 0x20000, Count: 1000}
	inside := map[string]string{
		"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		// owner, user 5, group 6, others
		"system.posix_acl_access": "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x05\x00\x00\x00\x08\x00\x04\x00\x06\x00\x00\x00\x20\x00\x04\x00\xff\xff\xff\xff",
		"user.note":               "5",
	}
	outside := map[string]string{
		"security.capability":     "\x01\x00\x00\x03\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00",
		"system.posix_acl_access": "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x05\x00\x01\x00\x08\x00\x04\x00\x06\x00\x02\x00\x20\x00\x04\x00\xff\xff\xff\xff",
		"user.note":               "5",
	}
	for name := range inside {
		for _, out := range []bool{true, false} {
			from, want := outside[name], inside[name]
			if out {
				from, want = want, from
			}
			got := map[string]string{name: from}
			if err := s.xattrs(got, out); err != nil || got[name] != want {
				t.Errorf("%s, out %v: %x, %v; want %x", name, out, got[name], err, want)
			}
		}
	}
	foreign := map[string]string{"system.posix_acl_access": "\x02\x00\x00\x00\x02\x00\x04\x00\xff\xff\x00\x00"}
	if err := s.xattrs(foreign, true); err == nil {
		t.Error("a user that the namespace does not have was taken")
	}
}
