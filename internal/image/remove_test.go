package image_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/image"
)

func TestRemoveByDockersRules(t *testing.T) {
	running := image.Use{Container: "0123456789abcdef", Running: true}
	stopped := image.Use{Container: "0123456789abcdef"}
	for _, c := range []struct {
		name    string
		tags    string
		digests string
		remove  string // "ID" is the image's id
		force   bool
		uses    []image.Use
		want    string // what was done, or the error's text
		left    string // the tags afterwards; "-" when the image is gone
	}{
		{name: "one of two tags", tags: "app:1 app:2", remove: "app:1", want: "-app:1", left: "app:2"},
		{name: "the last tag", tags: "app:1", remove: "app:1", want: "-app:1 gone", left: "-"},
		{name: "latest is implied", tags: "app", remove: "app", want: "-app:latest gone", left: "-"},
		{name: "by id with one tag", tags: "app:1", remove: "ID", want: "-app:1 gone", left: "-"},
		{name: "by id, dangling", remove: "ID", want: "gone", left: "-"},
		{name: "by id with two tags", tags: "app:1 app:2", remove: "ID", want: "(must be forced) - image is referenced in multiple repositories", left: "app:1 app:2"},
		{name: "by id with two tags, forced", tags: "app:1 app:2", remove: "ID", force: true, want: "-app:1 -app:2 gone", left: "-"},
		{name: "by id with tag and digest of one repository", tags: "app:1", digests: "app", remove: "ID", want: "-app:1 -app@ gone", left: "-"},
		{name: "by id with digest of another", tags: "app:1", digests: "web", remove: "ID", want: "referenced in multiple repositories", left: "app:1"},
		{name: "tag takes its repository's digest along", tags: "app:1", digests: "app", remove: "app:1", want: "-app:1 -app@ gone", left: "-"},
		{name: "tag leaves another repository's digest", tags: "app:1", digests: "web", remove: "app:1", want: "-app:1", left: ""},
		{name: "used, last tag", tags: "app:1", remove: "app:1", uses: []image.Use{stopped}, want: `conflict: unable to remove repository reference "app:1" (must force) - container 0123456789ab is using its referenced image`, left: "app:1"},
		{name: "used, one of two tags", tags: "app:1 app:2", remove: "app:1", uses: []image.Use{running}, want: "-app:1", left: "app:2"},
		{name: "used by stopped, forced", tags: "app:1", remove: "app:1", force: true, uses: []image.Use{stopped}, want: "-app:1 gone", left: "-"},
		{name: "used by running, forced by name", tags: "app:1", digests: "app", remove: "app:1", force: true, uses: []image.Use{stopped, running}, want: "-app:1 -app@", left: ""},
		{name: "used by running, forced by id", tags: "app:1", remove: "ID", force: true, uses: []image.Use{running}, want: "(cannot be forced) - image is being used by running container 0123456789ab", left: "app:1"},
		{name: "used by stopped, by id", tags: "app:1", remove: "ID", uses: []image.Use{stopped}, want: "(must be forced) - image is being used by stopped container 0123456789ab", left: "app:1"},
		{name: "no such image", tags: "app:1", remove: "web", want: `No such image: web:latest`, left: "app:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t)
			img := f.put(t, "one", strings.Fields(c.tags)...)
			if c.digests != "" {
				o := image.PutOptions{RawConfig: img.RawConfig, RepoDigests: []string{"docker.io/library/" + c.digests + "@" + string(img.Record.Manifest.Digest)}}
				if _, err := f.Put(t.Context(), img.Config, o); err != nil {
					t.Fatal(err)
				}
			}
			name := c.remove
			if name == "ID" {
				name = img.ID.Encoded()[:20]
			}
			done, err := f.Remove(t.Context(), name, image.RemoveOptions{Force: c.force,
				UsedBy: func(digest.Digest) ([]image.Use, error) { return c.uses, nil }})
			got := words(done)
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("did %q, want %q", got, c.want)
			}
			if err != nil && !errors.Is(err, errdef.ErrConflict) && !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("class of %v", err)
			}
			after, err := f.Inspect(t.Context(), string(img.ID))
			if gone := errors.Is(err, errdef.ErrNotFound); gone != (c.left == "-") {
				t.Fatalf("afterwards: %v", err)
			} else if !gone && strings.ReplaceAll(strings.Join(after.Tags, " "), "docker.io/library/", "") != c.left {
				t.Errorf("left %q, want %q", after.Tags, c.left)
			}
		})
	}
}

func words(done []image.Deleted) string {
	var w []string
	for _, d := range done {
		switch name, _, isDigest := strings.Cut(d.Untagged, "@"); {
		case d.Deleted != "":
			w = append(w, "gone")
		case isDigest:
			w = append(w, "-"+name+"@")
		default:
			w = append(w, "-"+name)
		}
	}
	return strings.Join(w, " ")
}

func TestRemovePrunesUntaggedParents(t *testing.T) {
	for _, keep := range []bool{false, true} {
		f := open(t)
		chain := []image.Image{f.put(t, "base", "base")}
		for i := range 3 {
			img, err := f.Append(t.Context(), chain[i], image.AppendOptions{Layer: f.layers.add(fmt.Sprint(i))})
			if err != nil {
				t.Fatal(err)
			}
			chain = append(chain, img)
		}
		done, err := f.Remove(t.Context(), string(chain[3].ID), image.RemoveOptions{NoPrune: keep})
		if err != nil {
			t.Fatal(err)
		}
		want := "gone gone gone" // the base has a name and stays
		if keep {
			want = "gone"
		}
		if got := words(done); got != want {
			t.Errorf("NoPrune %v: %q, want %q", keep, got, want)
		}
		if _, err := f.Resolve(t.Context(), "base"); err != nil {
			t.Error(err)
		}
	}
}

func TestRemoveByManifestDigest(t *testing.T) {
	f := open(t)
	img := f.put(t, "one", "app:1")
	done, err := f.Remove(t.Context(), "app@"+string(img.Record.Manifest.Digest), image.RemoveOptions{})
	if err != nil || words(done) != "-app:1 gone" {
		t.Errorf("%q, %v", words(done), err)
	}
}

// Whatever tagging and removing at once come to, no tag points to an image that is gone.
func TestTagAndRemoveAtOnce(t *testing.T) {
	f := open(t)
	f.Hold, f.Now = nil, nil
	img := f.put(t, "one", "app")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				if i%2 == 0 {
					_, err := f.Tag(t.Context(), fmt.Sprint("name", i), img.ID, "tag")
					if err != nil && !errors.Is(err, errdef.ErrNotFound) {
						t.Error(err)
					}
					continue
				}
				_, err := f.Remove(t.Context(), string(img.ID), image.RemoveOptions{Force: true})
				if err != nil && !errors.Is(err, errdef.ErrNotFound) {
					t.Error(err)
				}
				if _, err := f.Put(t.Context(), img.Config, image.PutOptions{RawConfig: img.RawConfig}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	tags, err := f.Tags.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		if _, err := f.Resolve(t.Context(), tag.Name); err != nil {
			t.Errorf("tag %s: %v", tag.Name, err)
		}
	}
}
