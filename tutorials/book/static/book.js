"use strict";
// Pictures with a dark version follow the theme that was chosen, which may not be the system's.
document.addEventListener("DOMContentLoaded", () => {
  const follow = () => {
    const theme = document.body.dataset.theme;
    for (const source of document.querySelectorAll("picture > source")) {
      source.media =
        theme === "dark" ? "all" : theme === "light" ? "not all" : "(prefers-color-scheme: dark)";
    }
  };
  new MutationObserver(follow).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
  follow();
  // what scrolls sideways can be reached with the keyboard
  for (const part of document.querySelectorAll("article pre, article table")) part.tabIndex = 0;
});
