"use strict";
// Without this script every run stands in the page, folded. With it, a list chooses the one that is shown.
(() => {
  const runs = [...document.querySelectorAll("details.run")];
  const choice = document.querySelector(".choice");
  if (runs.length === 0 || !choice) return;
  const list = choice.querySelector("select");
  const show = () => runs.forEach((run, index) => {
    run.hidden = index !== list.selectedIndex;
    run.open = !run.hidden;
  });
  document.querySelector("#runs").classList.add("chosen");
  choice.hidden = false;
  list.addEventListener("change", show);
  show();
})();
