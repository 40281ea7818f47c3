// Lets the page open without a network: the network first, what the page has put away (see app.js) where it fails.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  event.respondWith(
    fetch(event.request).catch(async (error) => {
      const kept = await caches.match(event.request);
      if (kept) return kept;
      throw error;
    }),
  );
});
