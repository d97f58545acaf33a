package console

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestWhatOneHasIsNotSentAgain(t *testing.T) {
	h := newHouse(t)
	samples, admin := h.samples(), h.client(h.admin)
	shown := 0
	for _, rt := range routes {
		if rt.method != http.MethodGet || !rt.tagged() || rt.object() != rt.pattern {
			continue
		}
		shown++
		target := samples[rt.method+" "+rt.pattern].target
		first := h.want(admin, 200, "GET", target, "")
		tag := first.Header.Get("ETag")
		if len(tag) < 20 || !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s: ETag %q", rt.pattern, tag)
		}
		for given, status := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, strings.Trim(tag, `"`): 200} {
			r := h.sendWith(admin, "GET", target, "", map[string]string{"If-None-Match": given})
			if r.StatusCode != status || r.Header.Get("ETag") != tag || status == 304 && len(r.body) > 0 {
				t.Errorf("%s with %s: %s %s", rt.pattern, given, r.Status, r.body)
			}
		}
		h.sendWith(h.client(h.certified("stranger")), "GET", target, "", map[string]string{"If-None-Match": tag}).fails(t, 403, "not_permitted")
	}
	if shown < 8 {
		t.Errorf("only %d routes show an object with an ETag", shown)
	}
	document := h.want(h.client(nil), 200, "GET", "/api/v1/openapi.json", "")
	if r := h.sendWith(h.client(nil), "GET", "/api/v1/openapi.json", "", map[string]string{"If-None-Match": document.Header.Get("ETag")}); r.StatusCode != 304 {
		t.Errorf("the document: %s", r.Status)
	}
}

func TestAChangeIsOfWhatWasSeen(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.imports(admin, "gw-1")
	const device = "/api/v1/devices/gw-1"
	tag := func() string { return h.want(admin, 200, "GET", device, "").Header.Get("ETag") }
	change := func(verb, tag string) *reply {
		return h.sendWith(admin, "POST", device+"/"+verb, `{"reason":"r"}`, map[string]string{"If-Match": tag})
	}
	seen := tag()
	if r := change("quarantine", seen); r.StatusCode != 204 {
		t.Fatalf("%s %s", r.Status, r.body)
	}
	change("release", seen).fails(t, 412, "changed_since")
	change("release", "W/"+tag()).fails(t, 412, "changed_since") // weak tags are not for this
	change("release", "").fails(t, 412, "changed_since")
	if r := change("release", `"x", `+tag()); r.StatusCode != 204 {
		t.Errorf("%s %s", r.Status, r.body)
	}
	if r := change("quarantine", "*"); r.StatusCode != 204 {
		t.Errorf("%s %s", r.Status, r.body)
	}
	h.sendWith(admin, "POST", "/api/v1/devices/gw-2/release", "", map[string]string{"If-Match": "*"}).fails(t, 404, "device_unknown")
	h.sendWith(admin, "POST", "/api/v1/tokens", "", map[string]string{"If-Match": "*"}).fails(t, 400, "no_precondition")
	h.certified("lin")
	roles := h.sendWith(admin, "PUT", "/api/v1/operators/lin/roles", `{"roles":[{"role":"viewer"}]}`, map[string]string{"If-Match": `"x"`})
	roles.fails(t, 412, "changed_since")
}

// TestOfManyChangesOfOneSightOneIsMade: between the look at the tag and the change no other one comes.
func TestOfManyChangesOfOneSightOneIsMade(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		admin := h.client(h.admin)
		h.certified("lin")
		tag := h.want(admin, 200, "GET", "/api/v1/operators/lin", "").Header.Get("ETag")
		var all sync.WaitGroup
		made := make(chan int, 12)
		for n := range cap(made) {
			all.Go(func() {
				body := `{"roles":[{"role":"viewer","scope":{"batch":"` + string(rune('a'+n)) + `"}}]}`
				r := h.sendWith(admin, "PUT", "/api/v1/operators/lin/roles", body, map[string]string{"If-Match": tag})
				if r.StatusCode == 204 {
					made <- n
				} else {
					r.fails(t, 412, "changed_since")
				}
			})
		}
		all.Wait()
		if len(made) != 1 {
			t.Errorf("%d changes were made of what one had seen", len(made))
		}
	})
}

func TestCursorsAreOfTheirList(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.imports(admin, "gw-1", "gw-2")
	var page list[any]
	h.want(admin, 200, "GET", "/api/v1/devices?limit=1", "").into(t, &page)
	if page.Next == nil {
		t.Fatal("there is no next page")
	}
	h.want(admin, 200, "GET", "/api/v1/devices?cursor="+*page.Next, "").into(t, &page)
	if len(page.Items) != 1 || page.Next != nil {
		t.Errorf("the second page has %d items", len(page.Items))
	}
	h.want(admin, 200, "GET", "/api/v1/devices?limit=1", "").into(t, &page)
	lists, target := 0, ""
	for _, rt := range routes {
		paged := slices.ContainsFunc(rt.query, func(p parameter) bool { return p.name == "cursor" })
		if target = rt.pattern; !paged || strings.Contains(target, "{") {
			continue
		}
		lists++
		for _, cursor := range []string{"1", "gw-1", "AAAA", *page.Next + "A", *page.Next} {
			if cursor == *page.Next && rt.action == "device.list" {
				continue
			}
			h.want(admin, 400, "GET", target+"?cursor="+cursor, "").fails(t, 400, "bad_cursor")
		}
		for _, limit := range []string{"0", "-1", "1001", "x", "1e2"} {
			h.want(admin, 400, "GET", target+"?limit="+limit, "").fails(t, 400, "bad_parameter")
		}
	}
	if lists < 9 {
		t.Errorf("only %d lists were tried", lists)
	}
}
